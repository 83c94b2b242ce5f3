//! Named address ranges for `from` lists: static tables, each with its date.
//!
//! They change only with a release; nothing is downloaded at run time. Which field an operator's edge writes is the
//! caller's choice: see the operator's own documentation at [`Preset::source`].

/// A named list of ranges with its date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What a `from` list calls it: `cloudflare`.
    pub name: &'static str,
    /// Where the operator publishes it, or the RFCs that define it.
    pub source: &'static str,
    /// Date of the snapshot (ISO 8601, may be a month); empty for ranges that an RFC fixes.
    pub seen: &'static str,
    /// CIDR texts.
    pub ranges: &'static [&'static str],
}

/// A month of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Month {
    /// `2026`.
    pub year: u32,
    /// From 1 to 12.
    pub month: u32,
}

impl Preset {
    /// How many months before `today` the snapshot was taken; `None` for ranges that an RFC fixes.
    pub fn months_old(&self, today: Month) -> Option<u32> {
        let (year, rest) = self.seen.split_once('-')?;
        let (month, _) = rest.split_once('-').unwrap_or((rest, ""));
        let (year, month): (u32, u32) = (year.parse().ok()?, month.parse().ok()?);
        Some((today.year * 12 + today.month).saturating_sub(year * 12 + month))
    }
}

/// The preset of this name; names are lower case.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// All presets.
pub static PRESETS: &[Preset] = &[
    Preset {
        name: "loopback",
        source: "RFC 1122, RFC 4291",
        seen: "",
        ranges: &["127.0.0.0/8", "::1/128"],
    },
    Preset {
        name: "private",
        source: "RFC 1918, RFC 4193",
        seen: "",
        ranges: &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
    },
    Preset {
        name: "link_local",
        source: "RFC 3927, RFC 4291",
        seen: "",
        ranges: &["169.254.0.0/16", "fe80::/10"],
    },
    Preset {
        name: "cgnat",
        source: "RFC 6598",
        seen: "",
        ranges: &["100.64.0.0/10"],
    },
    Preset {
        name: "cloudflare",
        source: "https://www.cloudflare.com/ips/",
        seen: "2026-11",
        ranges: &[
            "103.21.244.0/22",
            "103.22.200.0/22",
            "103.31.4.0/22",
            "104.16.0.0/13",
            "104.24.0.0/14",
            "108.162.192.0/18",
            "131.0.72.0/22",
            "141.101.64.0/18",
            "162.158.0.0/15",
            "172.64.0.0/13",
            "173.245.48.0/20",
            "188.114.96.0/20",
            "190.93.240.0/20",
            "197.234.240.0/22",
            "198.41.128.0/17",
            "2400:cb00::/32",
            "2405:8100::/32",
            "2405:b500::/32",
            "2606:4700::/32",
            "2803:f800::/32",
            "2a06:98c0::/29",
            "2c0f:f248::/32",
        ],
    },
    Preset {
        name: "fastly",
        source: "https://api.fastly.com/public-ip-list",
        seen: "2026-10-14",
        ranges: &[
            "23.235.32.0/20",
            "43.249.72.0/22",
            "103.244.50.0/24",
            "103.245.222.0/23",
            "103.245.224.0/24",
            "104.156.80.0/20",
            "140.248.64.0/18",
            "140.248.128.0/17",
            "146.75.0.0/17",
            "151.101.0.0/16",
            "157.52.64.0/18",
            "167.82.0.0/17",
            "167.82.128.0/20",
            "167.82.160.0/20",
            "167.82.224.0/20",
            "172.111.64.0/18",
            "185.31.16.0/22",
            "199.27.72.0/21",
            "199.232.0.0/16",
            "2a04:4e40::/32",
            "2a04:4e42::/32",
        ],
    },
    Preset {
        name: "google_lb",
        source: "https://cloud.google.com/load-balancing/docs/firewall-rules",
        seen: "2026-11",
        ranges: &["35.191.0.0/16", "130.211.0.0/22"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_a_network_without_host_bits() {
        for preset in PRESETS {
            assert!(!preset.ranges.is_empty(), "{}", preset.name);
            for range in preset.ranges {
                let network: ipnet::IpNet = range.parse().expect(range);
                assert_eq!(network, network.trunc(), "{} {range}", preset.name);
            }
        }
    }

    #[test]
    fn operators_lists_carry_their_date_and_address() {
        for name in ["cloudflare", "fastly", "google_lb"] {
            let preset = preset(name).expect(name);
            assert!(preset.seen.starts_with("2026-"), "{name}");
            assert!(preset.source.starts_with("https://"), "{name}");
        }
    }

    #[test]
    fn snapshots_grow_old_and_rfcs_do_not() {
        let age = |name, year, month| preset(name).unwrap().months_old(Month { year, month });
        assert_eq!(age("cloudflare", 2026, 11), Some(0));
        assert_eq!(age("cloudflare", 2027, 12), Some(13));
        assert_eq!(age("fastly", 2027, 1), Some(3));
        assert_eq!(age("fastly", 2020, 1), Some(0));
        assert_eq!(age("private", 2036, 1), None);
    }
}
