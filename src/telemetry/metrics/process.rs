//! The process as the kernel sees it, by the names that all exporters use.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};

/// Read from `/proc` whenever somebody asks; what can't be read isn't told.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut tell = |name, help, value: &dyn EncodeMetric| {
            let kind = value.metric_type();
            value.encode(encoder.encode_descriptor(name, help, None, kind)?)
        };
        if let Some(figures) = Figures::read() {
            let seconds = ConstCounter::new(figures.cpu_seconds);
            tell("process_cpu_seconds", "CPU time, by all threads", &seconds)?;
            let bytes = ConstGauge::new(figures.resident_bytes);
            tell(
                "process_resident_memory_bytes",
                "Memory that is in use",
                &bytes,
            )?;
            let bytes = ConstGauge::new(figures.virtual_bytes);
            tell(
                "process_virtual_memory_bytes",
                "Memory that is reserved",
                &bytes,
            )?;
            let time = ConstGauge::new(figures.start_seconds);
            tell(
                "process_start_time_seconds",
                "When it began, since 1970",
                &time,
            )?;
            let threads = ConstGauge::new(figures.threads);
            tell("process_threads", "Threads", &threads)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them reads the folder.
            let open = ConstGauge::new(open.count().saturating_sub(1) as u64);
            tell("process_open_fds", "Open file descriptors", &open)?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            tell(
                "process_max_fds",
                "File descriptors there may be",
                &ConstGauge::new(most),
            )?;
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
struct Figures {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    start_seconds: f64,
    threads: u64,
}

impl Figures {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let machine = fs::read_to_string("/proc/stat").ok()?;
        let booted = machine
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?;
        Self::parse(&stat, booted.trim().parse().ok()?)
    }

    /// `proc_pid_stat(5)`; `booted` in seconds since 1970.
    fn parse(stat: &str, booted: f64) -> Option<Self> {
        // The program's name is in brackets and may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Behind the first two, and counted from 1.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        #[expect(clippy::cast_precision_loss, reason = "exact for thousands of years")]
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds: seconds(field(14)? + field(15)?),
            threads: field(20)?,
            start_seconds: booted + seconds(field(22)?),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * rustix::param::page_size() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_behind_any_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 5 0 1000 8192 3 18446744073709551615";
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let page = rustix::param::page_size() as u64;
        assert_eq!(
            Figures::parse(stat, 1e9),
            Some(Figures {
                cpu_seconds: 200.0 / ticks,
                resident_bytes: 3 * page,
                virtual_bytes: 8192,
                start_seconds: 1e9 + 1000.0 / ticks,
                threads: 5,
            })
        );
        assert_eq!(Figures::parse("42 (a) S 1", 0.0), None);
    }

    #[test]
    fn this_process_has_figures() {
        let figures = Figures::read().unwrap();
        assert!(figures.resident_bytes > 0 && figures.threads > 0 && figures.start_seconds > 1e9);
    }
}
