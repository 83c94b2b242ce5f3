#!/usr/bin/env -S python3 -B
"""headwater as the proxy of a two-node cluster network: what each externalTrafficPolicy makes of the client's address."""
import json
import os
import subprocess

from lib import HERE, HOST, Lane, curl, fields, poll

CLIENT, BALANCER = "172.16.0.100", "172.16.0.50"
NODES = {"node1": "172.16.0.11", "node2": "172.16.0.12"}
PODS = {"whoami1": "10.42.1.11", "whoami2": "10.42.1.12", "whoami3": "10.42.1.13"}
# A proxy pod sees the node that translated: its bridge for the pod it hosts, its inner address for one elsewhere.
TRANSLATED = {"node1": ["10.41.0.1", "10.42.1.1"], "node2": ["10.41.0.2", "10.42.2.1"]}
PROXIES = {"edge1": "10.42.1.10", "edge2": "10.42.2.10"}
TOPOLOGY = str(HERE.parent / "netns" / "topology.sh")

# Beside the Service's own port, one for each kind of traffic that isn't to be taken for translated.
CONFIG = """
listeners:
  http:
    address: ":8080"
    proxy_protocol: { mode: optional, from: [172.16.0.50] }
  pods: { address: ":8081" }
  node: { address: ":8082" }
  probes: { address: ":8083" }
  seen: { address: "127.0.0.1:8084" }
client_ip:
  trusted_proxies: []
  CLUSTER
admin: { address: "127.0.0.1:9900" }
upstreams:
  whoami: { endpoints: ["10.42.1.11:8080", "10.42.1.12:8080", "10.42.1.13:8080"] }
routes:
  - { match: { hosts: [whoami.example.com] }, upstream: whoami }
"""
CLUSTER = "cluster: { nodes: [10.41.0.1, 10.41.0.2], pods: [10.42.0.0/16] }"
HAPROXY = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 10s
  timeout server 10s
listen edge
  bind 172.16.0.50:80
  server node1 172.16.0.11:30080 send-proxy-v2
  server node2 172.16.0.12:30080 send-proxy-v2
"""


class Cluster:
    """The topology, under names of this lane's own."""

    def __init__(self, lane):
        self.lane = lane
        self.prefix = f"hw{os.getpid()}-"
        lane.ends.append(lambda: self.topology("down"))
        self.topology("up")

    def topology(self, *arguments):
        environment = {**os.environ, "NETNS_PREFIX": self.prefix}
        subprocess.run(["bash", TOPOLOGY, *arguments], env=environment, check=True)

    def space(self, name):
        return self.prefix + name

    def ask(self, address, *arguments, source="client", path="/"):
        resolved = ["--connect-to", f"::{address}"]
        return curl(*resolved, *arguments, f"http://{HOST}{path}", netns=self.space(source))


def start(lane, cluster):
    for name, address in PODS.items():
        lane.whoami(name, 8080, address, cluster.space(name))
    cluster.proxies = start_proxies(lane, cluster)
    (lane.dir / "haproxy.cfg").write_text(HAPROXY)
    lane.start("haproxy", ["haproxy", "-db", "-f", "haproxy.cfg"], 80, BALANCER, cluster.space("lb"))


def start_proxies(lane, cluster, told=CLUSTER):
    config = CONFIG.replace("CLUSTER", told)
    return [lane.headwater(name, config, 8080, netns=cluster.space(name)) for name in PROXIES]


def remote(answer):
    """The address that the upstream itself was asked from."""
    return answer.told.get("RemoteAddr", "").rsplit(":", 1)[0]


def cluster_policy(lane, cluster):
    for node, address in NODES.items():
        answers = [answer for _ in range(8) for answer in cluster.ask(f"{address}:30080")]
        clients = sorted({value for answer in answers for value in answer.values("X-Real-IP")})
        chains = sorted({value for answer in answers for value in answer.values("X-Forwarded-For")})
        lane.check(f"Cluster, 8 connections to {node}, statuses", {answer.status for answer in answers}, {200})
        own = lambda came, node=node: bool(came) and set(came) <= set(TRANSLATED[node])
        lane.check(f"Cluster, 8 connections to {node}, X-Real-IP is an address of that node", clients, own)
        lane.check(f"Cluster, 8 connections to {node}, X-Forwarded-For says the same", chains, clients)


def local_policy(lane, cluster):
    for node, address in NODES.items():
        answers = cluster.ask(f"{address}:30080", path="/[1-12]")
        what = f"Local, 12 requests over one connection to {node}"
        names = [answer.upstream for answer in answers]
        lane.check(f"{what}, upstreams", {name: names.count(name) for name in sorted(set(names))}, dict.fromkeys(PODS, 4))
        for name in ("X-Real-IP", "X-Forwarded-For"):
            lane.check(f"{what}, {name}", sorted({v for answer in answers for v in answer.values(name)}), [CLIENT])
        proxy = PROXIES[node.replace("node", "edge")]
        lane.check(f"{what}, the proxy that asked", sorted({remote(answer) for answer in answers}), [proxy])
        forged = fields("X-Real-IP: 203.0.113.9", "X-Forwarded-For: 203.0.113.9")
        answer, = cluster.ask(f"{address}:30080", *forged)
        lane.check(f"Local, forged fields to {node}, X-Real-IP", answer.values("X-Real-IP"), [CLIENT])
        lane.check(f"Local, forged fields to {node}, X-Forwarded-For", answer.values("X-Forwarded-For"), [CLIENT])


def balancer(lane, cluster):
    """A balancer outside the cluster, which says by PROXY protocol who connected to it."""
    answers = [answer for _ in range(4) for answer in cluster.ask(f"{BALANCER}:80")]
    lane.check("Local, 4 connections to the balancer, X-Real-IP", {v for a in answers for v in a.values("X-Real-IP")}, {CLIENT})
    asked = sorted({remote(answer) for answer in answers})
    lane.check("Local, 4 connections to the balancer, the proxies that asked", asked, sorted(PROXIES.values()))
    answer, = cluster.ask(f"{NODES['node1']}:30080", "--haproxy-protocol")
    lane.check("Local, a PROXY header from the client itself, status", answer.status, 400)


def without_proxy(lane, cluster):
    """whoami's own NodePort: what the proxy is there to mend."""
    cluster.topology("policy", "Cluster", "Local")
    answer, = cluster.ask(f"{NODES['node2']}:30002")
    lane.check("whoami under Cluster, by the node without endpoint, asked from", remote(answer), "10.41.0.2")
    cluster.topology("policy", "Local", "Local")
    answer, = cluster.ask(f"{NODES['node1']}:30002")
    lane.check("whoami under Local, by the node with endpoints, asked from", remote(answer), CLIENT)
    answer, = cluster.ask(f"{NODES['node2']}:30002", "--max-time", "2")
    timed_out = lambda came: "timed out" in came.lower() or "timeout" in came.lower()
    lane.check("whoami under Local, by the node without endpoint", answer.error, timed_out)
    answer, = cluster.ask(f"{NODES['node2']}:30080")
    lane.check("the same node, by the proxy, X-Real-IP", answer.values("X-Real-IP"), [CLIENT])


class Detector:
    """The proxies of both nodes, started anew: what they notice about whoever asks them from now on."""

    def __init__(self, lane, cluster, told=CLUSTER):
        self.lane, self.cluster = lane, cluster
        for process in cluster.proxies:
            process.terminate()
            process.wait(20)
            lane.processes.remove(process)
        cluster.proxies = start_proxies(lane, cluster, told)

    def admin(self, name, path):
        answer, = curl(f"http://127.0.0.1:9900{path}", netns=self.cluster.space(name))
        return answer.body

    def suspicions(self, name):
        return json.loads(self.admin(name, "/api/v1/suspicions"))

    def on(self, name, listener):
        return [found for found in self.suspicions(name) if found["listener"] == listener]

    def warnings(self, name):
        log = (self.lane.dir / f"{name}.log").read_text()
        return [json.loads(line) for line in log.splitlines() if '"W12' in line]

    def looks(self, name):
        """Waits until it has looked at all that came: a last one, which asks from its own machine, is noticed."""
        curl("http://127.0.0.1:8084/[1-120]", netns=self.cluster.space(name))
        poll(f"{name} to notice who asks from its own machine", lambda: self.on(name, "seen"))


def noticed_under_cluster(lane, cluster):
    for node, address in NODES.items():
        detector = Detector(lane, cluster)
        # The node picks a proxy for each connection.
        for _ in range(30):
            cluster.ask(f"{address}:30080", path="/[1-25]")
        for name in PROXIES:
            what = f"Cluster, requests by {node}, what {name} notices"
            poll(f"{name} to notice what {node} does", lambda: detector.on(name, "http"))
            found, = detector.on(name, "http")
            lane.check(what, found["message"], lambda came: "of this cluster" in came)
            own = lambda came, node=node: bool(came) and set(came) <= set(TRANSLATED[node])
            lane.check(f"{what}, peers", found["peers"], own)
            lane.check(f"{what}, the first remedy", found["remedies"][0], lambda came: came.startswith("externalTrafficPolicy: Local"))
            warnings = [(line["code"], line["listener"], line["cause"]) for line in detector.warnings(name)]
            lane.check(f"{what}, warnings", warnings, [("W120", "http", "node")])
            gauge = 'headwater_snat_suspected{listener="http",cause="node"} 1'
            lane.check(f"{what}, {gauge}", gauge in detector.admin(name, "/metrics").splitlines(), True)


def silent_under_local(lane, cluster):
    detector = Detector(lane, cluster)
    answers = []
    for _ in range(10):
        for address in (f"{NODES['node1']}:30080", f"{NODES['node2']}:30080", f"{BALANCER}:80"):
            answers += cluster.ask(address, path="/[1-20]")
    for name, address in PROXIES.items():
        node = name.replace("edge", "node")
        # Mixed with the visitors, and alone.
        for port in (8080, 8081):
            answers += cluster.ask(f"{address}:{port}", source="whoami1", path="/[1-150]")
        for port in (8080, 8082):
            answers += cluster.ask(f"{address}:{port}", source=node, path="/[1-30]")
        for port in (8080, 8083):
            answers += cluster.ask(f"{address}:{port}", source=node, path="/healthz?[1-150]")
    lane.check("Local, visitors, pods, the nodes themselves and probes, requests answered", [answer.status for answer in answers].count(200), 1920)
    for name in PROXIES:
        detector.looks(name)
        what = f"Local, visitors, pods, the node itself and probes, what {name} notices"
        lane.check(what, [found["listener"] for found in detector.suspicions(name)], ["seen"])
        lane.check(f"{what}, warnings", [line["listener"] for line in detector.warnings(name)], ["seen"])


def noticed_untold(lane, cluster):
    """Where nobody says what the addresses mean, a pod still knows its gateway."""
    detector = Detector(lane, cluster, told="")
    for name, address in PROXIES.items():
        cluster.ask(f"{address}:8082", source=name.replace("edge", "node"), path="/[1-120]")
        poll(f"{name} to notice its gateway", lambda: detector.on(name, "node"))
        found, = detector.on(name, "node")
        lane.check(f"without `cluster`, what {name} notices", [found["cause"], *found["peers"]], ["gateway", address.removesuffix("0")])


if os.geteuid() != 0:
    os.execv(TOPOLOGY, [TOPOLOGY, "sandbox", str(HERE / "netns.py")])

with Lane("netns", "ip", "nft", "ss", "unshare", "haproxy") as lane:
    cluster = Cluster(lane)
    start(lane, cluster)
    cluster_policy(lane, cluster)
    cluster.topology("policy", "Cluster", "Local")
    local_policy(lane, cluster)
    balancer(lane, cluster)
    without_proxy(lane, cluster)
    cluster.topology("policy", "Cluster", "Cluster")
    noticed_under_cluster(lane, cluster)
    cluster.topology("policy", "Cluster", "Local")
    silent_under_local(lane, cluster)
    noticed_untold(lane, cluster)
