"""What operators do with their operands, where the schema does not say it: one table.

By the schema alone, an operator reads every tensor among its arguments, also one that it changes in
place, writes those that it changes and what it returns, and does nothing where all that it returns
is a view. `NOTHING` and `EXCEPTIONS` are the operators that do otherwise. An entry names arguments
as the schema does and states its condition by arguments too, so that a line can be held against
PyTorch's documentation of the operator.

Names are those of `aten`, with and without the `_` of in-place forms; an entry without `_` holds
for both forms and for `_foreach_`, unless the form has an entry of its own. Operators of other
namespaces are named in full.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from math import prod
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flops.counting.costs.table import Formula


@dataclass(frozen=True, slots=True)
class Operands:
    """How an operator uses some of its arguments. Formulas read arguments as the cost table's do.

    Attributes:
        read: Whether the values of an argument are read; the others' are.
        written: Whether an argument is written; of the others the schema says it. Of several
            results that the schema calls new, `out[1]` is the second one.
        elements: How many elements of an argument are touched, if not all.
    """

    read: Mapping[str, Formula] = field(default_factory=dict)
    written: Mapping[str, Formula] = field(default_factory=dict)
    elements: Mapping[str, Formula] = field(default_factory=dict)


def never() -> bool:
    """A condition that never holds."""
    return False


def always() -> bool:
    """A condition that always holds."""
    return True


def _unread(*names: str) -> Operands:
    return Operands(read=dict.fromkeys(names, never))


def _given(received: str) -> Operands:
    """A collective that fills an argument which its schema does not mark."""
    return Operands(read={received: never}, written={received: always})


def _rows(weight: Tensor, indices: Tensor) -> int:
    return indices.numel() * weight.shape[-1]


def _as_results(out: Tensor) -> int:
    return out.numel()


def _as_index(index: Tensor) -> int:
    return index.numel()


def _as_source(source: Tensor) -> int:
    return source.numel()


def _at_indices(self: Tensor, indices: Sequence[Tensor | None]) -> int:
    """The elements that indices select; a mask as if it were true everywhere, whatever it holds."""
    shapes: list[Sequence[int]] = []
    others = list(self.shape)  # the sizes of the dimensions that no index stands for
    dimension = 0
    for index in indices:
        if index is None:
            dimension += 1
        elif index.dtype in (torch.bool, torch.uint8):
            shapes.append((index.numel(),))
            del others[dimension : dimension + index.dim()]
        else:
            shapes.append(index.shape)
            del others[dimension]
    # What they broadcast to; `broadcast_shapes` would refuse a mask beside other indices.
    sizes = zip_longest(*map(reversed, shapes), fillvalue=1)
    return prod(map(max, sizes)) * prod(others)


def _at_slices(self: Tensor, dim: int, index: Tensor) -> int:
    return index.numel() * (self.numel() // max(self.shape[dim], 1) if self.dim() else 1)


def _in_training(training: bool) -> bool:
    return training


def _gradient_of_input(output_mask: Sequence[bool]) -> bool:
    return output_mask[0]


def _gradient_of_weight(output_mask: Sequence[bool]) -> bool:
    return output_mask[1]


_STATISTICS = ("running_mean", "running_var")
_TAKES_ROWS = Operands(elements={"weight": _rows})
_TAKES_ITS_RESULTS = Operands(elements={"self": _as_results})
_PUTS = Operands(
    read={"self": lambda accumulate: accumulate},
    elements={"self": _at_indices},
)
# The schema marks gradients as changed: they are, where a `GradScaler` leaves scaling to it.
_GRADIENTS_SCALED = {"grads": lambda grad_scale: grad_scale is not None}

_UNFILLED = """
    _efficientzerotensor _empty_affine_quantized empty empty_like
    _empty_per_channel_affine_quantized empty_permuted empty_quantized empty_strided new_empty
    new_empty_strided
    """

# Views that their schemas do not show, tensors put together from others, storages that change.
_NOT_MOVED = """
    _coalesced_ _lazy_clone lift _mkldnn_transpose_ record_stream resize_ resize_as_
    resize_as_sparse_ _resize_output_ set_ sparse_compressed_tensor
    _sparse_compressed_tensor_unsafe _sparse_compressed_tensor_with_dims _sparse_coo_tensor_unsafe
    _sparse_coo_tensor_with_dims _sparse_coo_tensor_with_dims_and_tensors sparse_resize_
    sparse_resize_and_clear_ unsafe_split unsafe_split_with_sizes _unsafe_view
    _c10d_functional._wrap_tensor_autograd
    """

# Questions that a tensor's metadata answer, and waiting.
_QUERIES = """
    _assert_tensor_metadata c10d.barrier c10d.monitored_barrier_ _c10d_functional.wait_tensor
    _cudnn_rnn_flatten_weight dense_dim dim _dimI _dimV _fused_sdp_choice _has_same_storage_numel
    is_coalesced is_contiguous is_non_overlapping_and_dense is_pinned is_same_size is_set_to
    is_strides_like_format layout _nested_compute_contiguous_strides_offsets
    _nested_get_jagged_dummy _nested_get_lengths _nested_get_max_seqlen _nested_get_min_seqlen
    _nested_get_offsets _nested_get_ragged_idx _nested_tensor_from_mask_left_aligned
    _nested_tensor_size _nested_tensor_storage_offsets _nested_tensor_strides _nnz numel
    q_per_channel_axis q_scale q_zero_point qscheme size sparse_dim storage_offset stride
    sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride _use_cudnn_ctc_loss
    _use_miopen_ctc_loss
    """

NOTHING: Final = frozenset((_UNFILLED + _NOT_MOVED + _QUERIES).split())
"""Operators that move nothing, beside those that return views."""

NOTHING_IN: Final = frozenset({"prim", "profiler"})
"""Namespaces whose operators move nothing: questions to a tensor, marks in a profile."""

EXCEPTIONS: Final[Mapping[str, Operands]] = {
    names: operands
    for all_names, operands in {
        # Fills and copies write, whatever was there before.
        "copy fill zero copy_sparse_to_sparse_ exponential geometric cauchy log_normal normal_ "
        "normal_functional random uniform _philox_normal_ _philox_uniform_ "
        "_fill_mem_eff_dropout_mask_ bernoulli_": _unread("self"),
        # Without `p` the argument holds the probabilities.
        "bernoulli": Operands(read={"self": lambda p=None: p is None}),
        # Another tensor's shape is asked for, not its values.
        "zeros_like ones_like full_like rand_like randn_like randint_like new_zeros new_ones "
        "new_full": _unread("self"),
        "nll_loss_backward nll_loss2d_backward avg_pool2d_backward avg_pool3d_backward "
        "_adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward "
        "adaptive_max_pool2d_backward adaptive_max_pool3d_backward "
        "max_pool2d_with_indices_backward max_pool3d_with_indices_backward "
        "fractional_max_pool2d_backward fractional_max_pool3d_backward "
        "reflection_pad1d_backward reflection_pad2d_backward reflection_pad3d_backward "
        "replication_pad1d_backward replication_pad2d_backward replication_pad3d_backward": (
            _unread("self")
        ),
        # What is multiplied by 0 is ignored.
        "addbmm addmm addmv addr baddbmm": Operands(read={"self": lambda beta: beta != 0}),
        # Of a product, each gradient takes the other factor.
        "convolution_backward": Operands(
            read={"input": _gradient_of_weight, "weight": _gradient_of_input}
        ),
        "native_layer_norm_backward": Operands(
            read={"weight": _gradient_of_input, "bias": never},
        ),
        "_fused_rms_norm_backward": Operands(read={"weight": _gradient_of_input}),
        # Running statistics are of the batch in training, and of what was before in evaluation.
        "native_batch_norm cudnn_batch_norm miopen_batch_norm _native_batch_norm_legit": Operands(
            written=dict.fromkeys(_STATISTICS, _in_training),
        ),
        "native_batch_norm_backward": Operands(
            read=dict.fromkeys(_STATISTICS, lambda train: not train)
        ),
        "cudnn_batch_norm_backward miopen_batch_norm_backward": _unread(*_STATISTICS),
        "rrelu_with_noise": Operands(read={"noise": never}, written={"noise": _in_training}),
        "_cummax_helper _cummin_helper": _unread("values", "indices"),
        # A gather reads what it takes.
        "embedding _embedding_bag _embedding_bag_forward_only "
        "_embedding_bag_per_sample_weights_backward": _TAKES_ROWS,
        "gather index index_select masked_select take _unsafe_index _unsafe_masked_index": (
            _TAKES_ITS_RESULTS
        ),
        "nll_loss_forward nll_loss2d_forward": Operands(
            elements=dict.fromkeys(("self", "weight"), lambda target: target.numel())
        ),
        # A scatter in place touches what it puts; a copy with something put into it is a copy.
        "index_put_ _index_put_impl_": _PUTS,
        "put_": Operands(_PUTS.read, elements={"self": _as_index}),
        "scatter_": Operands(
            read={"self": lambda reduce=None: reduce is not None},
            elements=dict.fromkeys(("self", "src"), _as_index),
        ),
        "scatter_add_": Operands(elements=dict.fromkeys(("self", "src"), _as_index)),
        "scatter_reduce_": Operands(
            read={"self": lambda include_self: include_self},
            elements=dict.fromkeys(("self", "src"), _as_index),
        ),
        "index_add_": Operands(elements={"self": _as_source}),
        "index_reduce_": Operands(
            read={"self": lambda include_self: include_self}, elements={"self": _as_source}
        ),
        "index_copy_": Operands(read={"self": never}, elements={"self": _as_source}),
        "index_fill_": Operands(read={"self": never}, elements={"self": _at_slices}),
        "embedding_renorm_": Operands(
            elements={"self": lambda self, indices: indices.numel() * self.shape[-1]}
        ),
        # Fused optimizers.
        "_fused_adam_ _fused_adamw_": Operands(written=_GRADIENTS_SCALED),
        "_fused_adagrad_": Operands(written={**_GRADIENTS_SCALED, "state_steps": never}),
        "_fused_sgd_": Operands(
            read={"momentum_buffer_list": lambda is_first_step: not is_first_step},
            written=_GRADIENTS_SCALED,
        ),
        # Collectives, whose schemas mark nothing; some also return what they fill.
        "c10d._allgather_base_ c10d._reduce_scatter_base_ c10d.gather_into_tensor_": (
            _unread("output_tensor")
        ),
        "c10d.allgather_ c10d.alltoall_ c10d.reduce_scatter_ c10d.scatter_": (
            _unread("output_tensors")
        ),
        "c10d.gather_": _given("output_tensors"),
        "c10d.allgather_coalesced_": _given("output_lists"),
        "c10d.allgather_into_tensor_coalesced_ c10d.reduce_scatter_tensor_coalesced_": (
            _given("outputs")
        ),
        "c10d.alltoall_base_": _given("output"),
        "c10d.recv_ c10d.recv_any_source_": _given("tensors"),
        "c10d.allreduce_coalesced_": Operands(written={"tensors": always}),
        # Shards go into their place in the tensor that will be gathered, and both are returned.
        "fsdp.all_gather_copy_in": Operands(
            read={"all_gather_output": never}, written={"out[1]": never}
        ),
        "fsdp.copy_": _unread("tensor"),
    }.items()
    for names in all_names.split()
}
"""The operators that do not read all of their arguments, or write others than the schema says."""


_NONE = Operands()


def exceptions_of(namespace: str, name: str) -> Operands:
    """The exceptions of an operator: those of its form, else of the plain form, else none."""
    if namespace != "aten":
        return EXCEPTIONS.get(f"{namespace}.{name}", _NONE)
    plain = name.removeprefix("_foreach_").rstrip("_")
    return EXCEPTIONS.get(name) or EXCEPTIONS.get(plain, _NONE)


def moves_nothing(namespace: str, name: str) -> bool:
    """Whether an operator is one of those that move nothing though their schemas do not show it."""
    full = name if namespace == "aten" else f"{namespace}.{name}"
    return namespace in NOTHING_IN or full in NOTHING
