#!/usr/bin/env -S python3 -B
"""Runs a command as systemd would: with a listening socket as descriptor 3.

usage: activate.py DESCRIPTOR COMMAND...
"""
import os
import sys

os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
