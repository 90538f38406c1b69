"""Layers of torch_geometric, on one small graph."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch_geometric.nn as graphs
from judge import Case, Step
from torch import nn

NODES = torch.ones(6, 8)
EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])
KINDS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
FEATURES = torch.ones(8, 4)
POSITIONS = torch.arange(18.0).reshape(6, 3) / 18
BATCH = torch.tensor([0, 0, 0, 1, 1, 1])
GRAPH = (NODES, EDGES)
POINTS = (NODES, POSITIONS, EDGES)


def mlp(*widths: int) -> nn.Module:
    return nn.Sequential(nn.Linear(*widths), nn.ReLU(), nn.Linear(widths[1], widths[1]))


LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[Any, ...]]] = [
    ("GCNConv", (8, 16), {}, GRAPH),
    ("ChebConv", (8, 16), {"K": 3}, GRAPH),
    ("SAGEConv", (8, 16), {}, GRAPH),
    ("GraphConv", (8, 16), {}, GRAPH),
    ("GatedGraphConv", (8,), {"num_layers": 2}, GRAPH),
    ("ResGatedGraphConv", (8, 16), {}, GRAPH),
    ("GATConv", (8, 16), {"heads": 2}, GRAPH),
    ("GATv2Conv", (8, 16), {"heads": 2}, GRAPH),
    ("TransformerConv", (8, 16), {"heads": 2}, GRAPH),
    ("TAGConv", (8, 16), {}, GRAPH),
    ("GINConv", (mlp(8, 16),), {}, GRAPH),
    ("GINEConv", (mlp(8, 16),), {"edge_dim": 4}, (*GRAPH, FEATURES)),
    ("ARMAConv", (8, 16), {}, GRAPH),
    ("SGConv", (8, 16), {"K": 2}, GRAPH),
    ("SSGConv", (8, 16), {"alpha": 0.1}, GRAPH),
    ("MixHopConv", (8, 16), {}, GRAPH),
    ("RGCNConv", (8, 16), {"num_relations": 3}, (*GRAPH, KINDS)),
    ("FastRGCNConv", (8, 16), {"num_relations": 3}, (*GRAPH, KINDS)),
    ("RGATConv", (8, 16), {"num_relations": 3}, (*GRAPH, KINDS)),
    ("FiLMConv", (8, 16), {}, GRAPH),
    ("SignedConv", (8, 16), {"first_aggr": True}, (NODES, EDGES, EDGES)),
    ("DNAConv", (8,), {}, (torch.ones(6, 2, 8), EDGES)),
    ("PointNetConv", (mlp(11, 16),), {}, POINTS),
    ("PointTransformerConv", (8, 16), {}, POINTS),
    ("GMMConv", (8, 16), {"dim": 4, "kernel_size": 2}, (*GRAPH, FEATURES)),
    ("NNConv", (8, 16, mlp(4, 128)), {}, (*GRAPH, FEATURES)),
    ("CGConv", (8,), {"dim": 4}, (*GRAPH, FEATURES)),
    ("EdgeConv", (mlp(16, 16),), {}, GRAPH),
    ("FeaStConv", (8, 16), {"heads": 2}, GRAPH),
    ("HypergraphConv", (8, 16), {}, GRAPH),
    ("LEConv", (8, 16), {}, GRAPH),
    (
        "PNAConv",
        (8, 16),
        {
            "aggregators": ["mean", "max", "std"],
            "scalers": ["identity", "amplification"],
            "deg": torch.tensor([0, 4, 2]),
        },
        GRAPH,
    ),
    ("ClusterGCNConv", (8, 16), {}, GRAPH),
    ("GENConv", (8, 16), {}, GRAPH),
    ("GCN2Conv", (8,), {"alpha": 0.1}, (NODES, NODES, EDGES)),
    ("FAConv", (8,), {}, (NODES, NODES, EDGES)),
    ("EGConv", (8, 16), {"num_heads": 4}, GRAPH),
    ("PDNConv", (8, 16), {"edge_dim": 4, "hidden_channels": 8}, (*GRAPH, FEATURES)),
    ("GeneralConv", (8, 16), {}, GRAPH),
    ("SuperGATConv", (8, 16), {}, GRAPH),
    ("AntiSymmetricConv", (8,), {}, GRAPH),
    ("MFConv", (8, 16), {}, GRAPH),
    ("GPSConv", (8, graphs.GCNConv(8, 8)), {"heads": 2}, (*GRAPH, BATCH)),
    ("GCN", (8, 16), {"num_layers": 2}, GRAPH),
    ("GraphSAGE", (8, 16), {"num_layers": 2}, GRAPH),
    ("GAT", (8, 16), {"num_layers": 2}, GRAPH),
    (
        "PNA",
        (8, 16),
        {
            "num_layers": 2,
            "aggregators": ["mean"],
            "scalers": ["identity"],
            "deg": torch.tensor([0, 4, 2]),
        },
        GRAPH,
    ),
    (
        "SchNet",
        (),
        {
            "hidden_channels": 16,
            "num_filters": 16,
            "num_interactions": 2,
            "interaction_graph": lambda pos, _: (
                EDGES,
                (pos[EDGES[0]] - pos[EDGES[1]]).norm(dim=-1),
            ),
        },
        (KINDS[:6] + 1, POSITIONS),
    ),
]


def build(name: str, widths: tuple[Any, ...], options: dict[str, Any], inputs: Any) -> Step:
    return Step(getattr(graphs, name)(*widths, **options), inputs)


CASES = [Case("torch_geometric", name, partial(build, name, *rest)) for name, *rest in LAYERS]
