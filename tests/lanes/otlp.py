#!/usr/bin/env -S python3 -B
"""A collector of our own is sent the spans of requests: which requests, as parts of which traces, and what they say."""
import http.server
import os
import sys
import threading

from lib import HOST, ROOT, Lane, curl, fields, free_port, poll

try:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
except ImportError:
    tools = ROOT / "target/tools/bin/python3"
    if not tools.exists() or sys.executable == str(tools):
        sys.exit("lane otlp: PyPI's opentelemetry-proto is not there")
    os.execv(tools, [str(tools), "-B", *sys.argv])

PROXY = "127.0.0.2"
STRANGER = "127.0.0.3"
CLIENT = "198.51.100.7"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STATE = "congo=t61rcWkgMzE"

CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{http}" }}
client_ip: {{ trusted_proxies: [{proxy}], header: X-Forwarded-For }}
upstreams:
  app: {{ endpoints: ["127.0.0.1:{echo}"] }}
  dead: {{ endpoints: ["127.0.0.1:{dead}"] }}
routes:
  - {{ name: site, upstream: app }}
  - {{ name: dead, match: {{ path: /dead }}, upstream: dead }}
access_log: {{ output: "off" }}
tracing: {{ otlp_endpoint: "http://127.0.0.1:{collector}", sample_ratio: {ratio}, service_name: edge }}
"""


class Collector:
    """Takes what is sent to it, and says so."""

    def __init__(self, port):
        self.spans, self.requests = {}, []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(self.path, self.headers["content-type"], body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, kind, body):
        message = ExportTraceServiceRequest.FromString(body)
        for of_resource in message.resource_spans:
            service = {item.key: item.value.string_value for item in of_resource.resource.attributes}
            self.requests.append((path, kind, service.get("service.name")))
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    said = {item.key: value(item.value) for item in span.attributes}
                    self.spans[said.get("url.path")] = (span, said)

    def span(self, path):
        poll(f"the span of {path}", lambda: path in self.spans)
        return self.spans[path]


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def parents(flags):
    return fields(f"traceparent: 00-{TRACE}-{SPAN}-{flags}", f"tracestate: {STATE}", f"X-Forwarded-For: {CLIENT}")


def ask(port, path, source, *more):
    answer, = curl("--connect-to", f"::127.0.0.1:{port}", "--interface", source, *more, f"http://{HOST}{path}")
    return answer


def spans(lane, collector, port):
    answer = ask(port, "/child", PROXY, *parents("01"))
    span, said = collector.span("/child")
    lane.check("a sampled request of a trusted peer, its trace and parent", (span.trace_id.hex(), span.parent_span_id.hex()), (TRACE, SPAN))
    lane.check("what the upstream is told", answer.values("traceparent"), [f"00-{TRACE}-{span.span_id.hex()}-01"])
    lane.check("tracestate upstream", answer.values("tracestate"), [STATE])
    wanted = {"http.request.method": "GET", "client.address": CLIENT, "network.peer.address": PROXY, "http.response.status_code": 200,
              "headwater.route": "site", "headwater.upstream": "app", "headwater.client_ip_reason": "first_untrusted", "server.address": HOST}
    lane.check("attributes", {name: said.get(name) for name in wanted}, wanted)
    lane.check("its name and kind", (span.name, span.kind), ("GET site", 2))
    lane.check("its duration", span.end_time_unix_nano - span.start_time_unix_nano, lambda came: 0 < came < 20e9)
    lane.check("where it was sent", collector.requests[0], ("/v1/traces", "application/x-protobuf", "edge"))

    answer = ask(port, "/unsampled", PROXY, *parents("00"))
    lane.check("a request of a trusted peer that isn't sampled, upstream", answer.values("traceparent"), [f"00-{TRACE}-{SPAN}-00"])

    answer = ask(port, "/root", STRANGER, *fields(f"tracestate: {STATE}", "traceparent: nonsense"))
    span, said = collector.span("/root")
    lane.check("a request without a parent: its parent", span.parent_span_id.hex(), "")
    lane.check("what the upstream is told", answer.values("traceparent"), [f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"])
    lane.check("tracestate upstream", answer.values("tracestate"), [])
    lane.check("client", said.get("client.address"), STRANGER)

    lane.check("a request whose upstream is not there", ask(port, "/dead", STRANGER).status, 502)
    span, said = collector.span("/dead")
    lane.check("status and cause", (span.status.code, span.status.message, said.get("error.type")), (2, "upstream_connect", "upstream_connect"))
    lane.check("spans of the request that wasn't sampled", "/unsampled" in collector.spans, False)


with Lane("otlp") as lane:
    echo, everything, nothing, collecting = free_port(), free_port(), free_port(), free_port()
    lane.echo("one", echo)
    collector = Collector(collecting)
    common = {"proxy": PROXY, "echo": echo, "dead": free_port(), "collector": collecting}
    lane.headwater("everything", CONFIG.format(http=everything, ratio=1, **common), everything)
    process = lane.headwater("nothing", CONFIG.format(http=nothing, ratio=0.0, **common), nothing)
    spans(lane, collector, everything)

    answer = ask(nothing, "/stranger", STRANGER, *parents("01"))
    lane.check("ratio 0, a stranger who wants to be sampled, upstream", answer.values("traceparent"), [f"00-{TRACE}-{SPAN}-01"])
    ask(nothing, "/trusted", PROXY, *parents("01"))
    process.terminate()
    lane.check("it ends", process.wait(20), 0)
    lane.check("a trusted peer's span, sent before the end", "/trusted" in collector.spans, True)
    lane.check("the stranger's span", "/stranger" in collector.spans, False)

    collector.server.shutdown()
    collector.server.server_close()
    lane.check("requests without a collector, statuses", {ask(everything, "/after", STRANGER).status for _ in range(20)}, {200})
    log = lane.dir / "everything.log"
    poll("a word about that", lambda: "spans can't be sent" in log.read_text())
