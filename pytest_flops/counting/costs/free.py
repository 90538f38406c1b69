"""Free operators: views, copies, casts, indexing, comparisons, sorting, random fills, queries."""

from __future__ import annotations

from pytest_flops.counting.costs.table import FREE, Rules

_FREE = """
    alias_copy all allclose __and__ any arange argmax argmin as_strided as_strided_copy
    as_strided_scatter _assert_async _assert_scalar _assert_tensor_metadata bartlett_window
    bernoulli binomial bitwise_and bitwise_not bitwise_or bitwise_xor blackman_window block_diag
    broadcast_in_dim bucketize cat cauchy channel_shuffle _chunk_cat clone _coalesced collapse
    complex _conj_copy _conj_physical conj_physical constant_pad_nd convert_element_type
    _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo copy _copy_from
    _copy_from_and_resize copy_strided copy_to count_nonzero _cudnn_init_dropout_state
    _cudnn_rnn_flatten_weight cummax _cummax_helper cummin _cummin_helper dense_dim detach
    detach_copy device_put diag_embed diagonal_backward diagonal_copy diagonal_scatter _dimI
    _dimV _efficientzerotensor embedding empty empty_like empty_permuted empty_strided eq equal
    expand_copy exponential eye fft_fftfreq fft_rfftfreq fill flip from_file full full_like
    _functional_assert_async _functional_assert_scalar _functional_sym_constrain_range
    _functional_sym_constrain_range_for_size _fused_sdp_choice _fw_primal_copy gather ge
    geometric gt hamming_window hann_window _has_same_storage_numel hash_tensor histc
    _histogramdd_bin_edges im2col index index_copy index_fill index_select _indices_copy
    indices_copy iota _is_all_true _is_any_true is_coalesced is_pinned is_same_size is_set_to
    isin isinf isnan isneginf isposinf __ixor__ _jagged_to_padded_dense_forward kaiser_window
    kthvalue _lazy_clone le lift lift_fresh lift_fresh_copy _linalg_check_errors linspace
    _local_scalar_dense log_normal logical_and logical_not logical_or logical_xor logspace lt
    lu_unpack _make_dual_copy masked_fill masked_scatter masked_scatter_backward masked_select
    max_unpool2d max_unpool3d _mkldnn_reshape _mkldnn_transpose mkldnn_reorder_conv2d_weight
    mkldnn_reorder_conv3d_weight mode multinomial narrow_copy ne _neg_view_copy
    _nested_compute_contiguous_strides_offsets _nested_from_padded
    _nested_from_padded_and_nested_example _nested_from_padded_tensor _nested_get_jagged_dummy
    _nested_get_lengths _nested_get_max_seqlen _nested_get_min_seqlen _nested_get_offsets
    _nested_get_ragged_idx _nested_get_values_copy _nested_select_backward _nested_sum_backward
    _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned
    _nested_tensor_from_tensor_list _nested_tensor_size _nested_tensor_storage_offsets
    _nested_tensor_strides _nested_view_from_buffer_copy _nested_view_from_jagged_copy new_empty
    new_empty_strided new_full new_ones new_zeros _new_zeros_with_same_feature_meta _nnz nonzero
    nonzero_static normal normal_functional ones ones_like __or__ _pack_padded_sequence
    _padded_dense_to_jagged_forward permute_copy _pin_memory pixel_shuffle pixel_unshuffle
    poisson _print rand rand_like randint randint_like randn randn_like random randperm range
    record_stream reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave
    replication_pad1d replication_pad2d replication_pad3d _reshape_alias_copy _reshape_copy
    resize resize_as _resize_output roll rot90 _sample_dirichlet scalar_tensor searchsorted
    select_backward select_copy select_scatter set signbit slice_backward slice_copy
    slice_scatter sort _sparse_broadcast_to_copy sparse_compressed_tensor
    _sparse_compressed_tensor_with_dims sparse_coo_tensor _sparse_coo_tensor_with_dims
    _sparse_coo_tensor_with_dims_and_tensors sparse_dim sparse_mask _sparse_mask_projection
    _sparse_sum_backward sparse_resize sparse_resize_and_clear _spdiags split_copy
    split_with_sizes_copy squeeze squeeze_copy _stack stack _standard_gamma t t_copy take
    _to_copy _to_dense to_mkldnn to_padded_tensor _to_sparse _to_sparse_bsc _to_sparse_bsr
    _to_sparse_csc _to_sparse_csr topk transpose transpose_copy tril tril_indices triu
    triu_indices unbind_copy unfold_copy uniform _unique _unique2 unique_consecutive unique_dim
    unique_dim_consecutive _unsafe_index _unsafe_masked_index unsafe_split
    unsafe_split_with_sizes _unsafe_view unsqueeze unsqueeze_copy upsample_nearest1d
    upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d _validate_compressed_sparse_indices _values_copy values_copy
    view_as_complex_copy view_as_real_copy view_copy where __xor__ zero zeros zeros_like
    """

# What a tensor subclass is asked about itself. PyTorch 2.11 cannot tell whether these decompose.
_QUERIES = """
    dim is_contiguous is_non_overlapping_and_dense is_strides_like_format layout numel size
    storage_offset stride sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride
    """

RULES: Rules = {_FREE: FREE, _QUERIES: FREE}

# Queries of a tensor, marks in a profile.
FREE_NAMESPACES = frozenset({"prim", "profiler"})
