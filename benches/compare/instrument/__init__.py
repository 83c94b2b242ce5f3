"""What compare.py, growth.py and calls.py share."""
