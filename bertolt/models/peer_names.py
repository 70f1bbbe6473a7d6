"""What the peer's models have under a name that these have not, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertolt.base.console import info
from bertolt.base.errors import AbsentNameError, KeywordError, UsageError

_ADAPTERS = "keep it with the peer: Bertolt has no adapters"
_PLANS = "leave it out: torchrun trains on several devices, and TrainingArguments(fsdp=…) splits"
_EXPERTS = "leave it out: no layer here has experts"

REPLACED_ATTRIBUTES = {
    name: instead
    for names, instead in (
        (
            "activation_checkpointing_enable activation_checkpointing_disable "
            "is_activation_checkpointing",
            "use gradient_checkpointing_enable() and gradient_checkpointing_disable()",
        ),
        (
            "active_adapters add_adapter delete_adapter disable_adapters enable_adapters "
            "enable_peft_hotswap get_adapter_state_dict load_adapter set_adapter "
            "active_adapter",
            _ADAPTERS,
        ),
        (
            "add_model_tags model_tags push_to_hub register_for_auto_class create_model_card",
            "save_pretrained(folder), and upload it by huggingface_hub: upload_folder",
        ),
        (
            "barrier_after_gathered_checkpoint_save gather_sharded_state_dict_for_save "
            "save_distributed_checkpoint should_save_on_this_rank "
            "is_distributed_loading_by_transformers maybe_distribute_model "
            "prepare_distribute_model init_parallel_plans ep_plan fsdp_plan fsdp_size "
            "pp_plan tp_plan tp_size "
            "supports_pp_plan supports_tp_plan supports_context_parallel tensor_parallel",
            _PLANS,
        ),
        ("can_record_outputs", "ask: model(…, output_hidden_states=True, output_attentions=True)"),
        (
            "dequantize quantize is_quantized quantization_method",
            "use Predictor(model, tokenizer, precision='int8') to answer in 8 bits",
        ),
        (
            "disable_input_require_grads enable_input_require_grads",
            "leave it out: gradient checkpointing needs no input that requires gradients",
        ),
        ("dummy_inputs", "give a tokenizer's: tokenizer('a text', return_tensors='pt')"),
        ("generation_config generation_config_class", "give the settings to generate(…)"),
        ("get_compiled_call", "use torch.compile(model)"),
        (
            "get_correct_attn_implementation set_attn_implementation use_kernels set_use_kernels",
            'use set_attention_backend("auto"), or a backend by its name',
        ),
        (
            "get_correct_experts_implementation get_experts_implementation "
            "set_experts_implementation",
            _EXPERTS,
        ),
        (
            "get_decoder set_decoder get_encoder set_encoder",
            "use base_model for the encoder, and get_output_embeddings() for the last layer",
        ),
        ("get_expanded_tied_weights_keys all_tied_weights_keys", "use tied_weights()"),
        ("get_extended_attention_mask invert_attention_mask", "give attention_mask as it is"),
        (
            "get_head_mask prune_heads _prune_heads",
            "zero the columns of a head in attention.output.dense: layers keep their shapes",
        ),
        ("get_init_context", "use from_pretrained(folder)"),
        ("get_parameter_or_buffer", "use get_parameter(name) or get_buffer(name)"),
        (
            "initialize_weights mark_tied_weights_as_initialized _initialize_weights",
            "use init_weights(), or post_init() at the end of __init__",
        ),
        (
            "is_backend_compatible is_custom_code is_remote_code kernel_config "
            "input_modalities named_non_persistent_buffers retrieve_modules_from_names "
            "warn_if_padding_and_no_attention_mask",
            "leave it out",
        ),
        (
            "loss_function loss_type",
            "use torch.nn.functional.cross_entropy(logits, labels), or the loss that a head gives",
        ),
        (
            "resize_position_embeddings",
            "build the model with a larger max_position_embeddings and copy the rows",
        ),
        ("to_bettertransformer reverse_bettertransformer", "leave it out: attention is fused here"),
    )
    for name in names.split()
}
"""Names of the peer's models, transformers 5.23 and before."""


_HARMLESS = {
    "max_shard_size": "weights are one file",
    "save_function": "weights are written by safetensors, whole or not at all",
    "token": "nothing is uploaded",
    "save_peft_format": "there are no adapters",
    "save_original_format": "names of weights are those of the published files",
}
_REFUSED = {
    "push_to_hub": REPLACED_ATTRIBUTES["push_to_hub"],
    "variant": "give each variant a folder of its own",
    "distributed_checkpoint": _PLANS,
}


_EIGHT_BITS = "use Predictor.from_pretrained(folder, precision='int8') to answer in 8 bits"
LOADED_ALIKE = {
    "attn_implementation": "set_attention_backend chooses how attention is computed",
    "trust_remote_code": "no code of a model folder is run",
    "low_cpu_mem_usage": "weights are read into their places as it is",
    "use_safetensors": "model.safetensors is read where there is one",
    "weights_only": "nothing is unpickled that could run code",
    "disable_mmap": "weights are mapped as the file has them",
    "resume_download": "the hub's client resumes by itself",
    "mirror": "HF_ENDPOINT names another hub",
    "use_fast": "it is the tokenizer's",
    "_fast_init": "what the file has is not initialised first",
    "_from_auto": "the class of the config's family is taken",
    "use_kernels": "kernels are chosen by the device",
}
"""Arguments of `from_pretrained` that change nothing here, and why."""
NOTES = ("finetuning_task", "task_specific_params", "torchscript")
"""What programs of some years note in a config, and nothing reads."""
HUB = {"token": "token", "use_auth_token": "token", "force_download": "force_download"}
"""Arguments for the hub's client, and how that calls them."""
NOT_LOADED = {
    "from_tf": "convert the model with the peer, and open its model.safetensors",
    "from_flax": "convert the model with the peer, and open its model.safetensors",
    "return_unused_kwargs": "split your own settings off before the call",
    "load_in_8bit": _EIGHT_BITS,
    "load_in_4bit": _EIGHT_BITS,
    "quantization_config": _EIGHT_BITS,
    "state_dict": "from_config(config), and then load_state_dict(weights)",
    "subfolder": "name the folder itself",
    "variant": "name a folder that has model.safetensors",
    "gguf_file": "convert it with the peer first",
    "max_memory": "use to(device): a model is on one device",
    "offload_folder": "use to(device): a model is on one device",
    "offload_state_dict": "use to(device): a model is on one device",
    "tp_plan": _PLANS,
    "proxies": "set HTTPS_PROXY",
}
"""Arguments that are taken only where they ask for nothing, and what to write instead."""


def one_of(name: Any, older: Any) -> Any:
    """The model to open, under either of the names of the argument.

    Raises:
        UsageError: neither, or both.
    """
    if (name is None) == (older is None):
        raise UsageError(
            "from_pretrained takes a folder or the id of a model", fix="give one, as its first"
        )
    return older if name is None else name


def take_loading(options: dict[str, Any]) -> dict[str, Any]:
    """Take out of `options` what `from_pretrained` of the peer takes beside a config's fields.

    Returns:
        What the hub's client is to get.

    Raises:
        UsageError: all that cannot be honoured, with what to write instead.
    """
    asked = {name: value for name, value in options.items() if value not in (None, False)}
    if refused := [name for name in asked if name in NOT_LOADED]:
        raise KeywordError(
            f"from_pretrained takes no {', '.join(refused)}",
            fix="; ".join(dict.fromkeys(NOT_LOADED[name] for name in refused)),
        )
    for name in options.keys() & (LOADED_ALIKE.keys() | HUB.keys() | NOT_LOADED.keys()):
        del options[name]
    for name in asked.keys() & LOADED_ALIKE.keys():
        info(f"from_pretrained: {name} changes nothing here: {LOADED_ALIKE[name]}")
    return {HUB[name]: value for name, value in asked.items() if name in HUB}


def require_harmless(peers: Mapping[str, Any]) -> None:
    """Say which arguments of the peer's `save_pretrained` change nothing, and refuse the others.

    Raises:
        UsageError: all that cannot be honoured, with what to write instead.
    """
    asked = {name: value for name, value in peers.items() if value or name not in _REFUSED}
    refused = [name for name in asked if name not in _HARMLESS]
    if refused:
        fixes = (_REFUSED.get(name, "leave it out") for name in refused)
        raise UsageError(
            f"save_pretrained takes no {', '.join(refused)}", fix="; ".join(dict.fromkeys(fixes))
        )
    for name in asked:
        info(f"save_pretrained: {name} changes nothing: {_HARMLESS[name]}")


def require_present(owner: str, name: str) -> None:
    """Refuse a name of the peer's models that has another form here.

    Raises:
        AbsentNameError: with what to write instead.
    """
    if name in REPLACED_ATTRIBUTES:
        raise AbsentNameError(f"{owner} has no {name!r}", fix=REPLACED_ATTRIBUTES[name])
