"""What others published about the speed of their schedulers, with the conditions that they give, and whether it can be compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """`comparable`: why the figure is or is not comparable with this report's."""

    system: str
    figure: str
    conditions: str
    source: str
    comparable: str


PUBLISHED = (
    Published(
        "Protean (Microsoft Azure)",
        "2,000 requests/s at peak; hundreds a second usually; a few ms for a decision",
        "Production. One instance serves a zone of 10,000 to 100,000 machines, with several allocation agents that work on copies of"
        " one placement store; conflicts are negligible; 85 to 90 % of the capacity is used. The hardware of agents and store is not published.",
        "Hadary et al., Protean: VM Allocation Service at Scale, OSDI 2020",
        "No. The load is what customers asked for, not the most that it can do; it ranks machines by many rules, where `random`"
        " here takes any; nobody else can run it.",
    ),
    Published(
        "Gödel (ByteDance)",
        "about 1,000 pods/s on average, more than 1,300 at peak; kube-scheduler 300 and 430 in the same set-up",
        "30,000 simulated nodes (KWOK), pods created at 2,000/s, 800,000 in all; 3 scheduler shards, dispatcher and binder;"
        " vanilla Kubernetes 1.29 with etcd; machines of 48 cores, 384 GB. Its authors say that the control plane was short of"
        " resources. The paper says up to 5,000 pods/s in production.",
        "kubewharf/godel-scheduler, docs/performance/best-practice.md; Xiang et al., SoCC 2023",
        "In part. Shards race over copies and a binder decides, as here. A pod passes Kubernetes' API server and etcd several"
        " times, and each is scored on all plugins; here a claim is one record. It had 48 cores, not 2.",
    ),
    Published(
        "kube-scheduler",
        "810 pods/s is the threshold below which its test fails",
        "`SchedulingBasic/5000Nodes_50000Pods` of scheduler_perf: 5,000 nodes, 5,000 pods before, 50,000 measured; one scheduler"
        " and the API server in one process, etcd beside it, no kubelets. The threshold depends on the machine of the project's CI.",
        "kubernetes/kubernetes, test/integration/scheduler_perf/misc/performance-config.yaml",
        "In part. The size of the fleet is one of this report's. One scheduler has no race to lose; pods are filtered and scored by"
        " all default plugins, and a binding is a write to etcd.",
    ),
    Published(
        "Nomad C2M (HashiCorp)",
        "nearly 1,500 containers/s on average",
        "2,000,000 containers on 6,100 hosts in 10 regions of AWS in 22 min 14 s; 3 servers, which schedule optimistically and"
        " serialise plans by Raft; Nomad 1.0. A job asks for many equal containers, which one evaluation places.",
        "hashicorp.com/c2m (2020)",
        "In part. Plans are verified one after the other, as claims are here. Many placements share one evaluation and one entry of the"
        " log, so it is to be compared with many claims in flight; the containers were really started.",
    ),
)
