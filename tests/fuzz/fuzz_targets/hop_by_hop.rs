//! Any `Connection` field: a field goes exactly if it is nominated or connection-scoped, and never if it tells who the
//! client is.
#![no_main]

use headwater::fields::Fields;
use headwater::hop_by_hop::HopByHop;
use http::header::{CONNECTION, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut fields = Fields::default();
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            fields.append(CONNECTION, value);
        }
    }
    let request = HopByHop::of_request(&fields);
    let response = HopByHop::of_response(&fields);
    for name in [
        "host",
        "content-length",
        "authorization",
        "cookie",
        "forwarded",
        "x-forwarded-for",
        "x-real-ip",
    ] {
        assert!(!request.removes(name), "{name}");
    }
    assert!(request.removes(CONNECTION));

    let mut options = Vec::new();
    for line in fields.get_all(&CONNECTION) {
        let trimmed = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        options.extend(trimmed.map(<[u8]>::to_ascii_lowercase));
    }
    assert_eq!(
        request.close(),
        options.iter().any(|option| option == b"close")
    );
    assert_eq!(
        request.upgrade(),
        options.iter().any(|option| option == b"upgrade")
    );
    for own in ["x-own", "x-other", "etag", "closed", "range"] {
        let nominated = options.iter().any(|option| option == own.as_bytes());
        assert_eq!(response.removes(own), nominated, "{own}");
    }
});
