"""The peer's training arguments that Bertolt has not, old ones too, and what to do here instead."""

from __future__ import annotations

ELSEWHERE = {
    name: instead
    for names, instead in (
        ("evaluation_strategy do_eval", "use eval_strategy"),
        ("do_train do_predict", "call Trainer.train() and Trainer.predict(); see eval_strategy"),
        (
            "group_by_length length_column_name",
            'use train_sampling_strategy="group_by_length"; lengths are counted',
        ),
        (
            "fp16 fp16_full_eval fp16_opt_level half_precision_backend",
            "use bf16=True (bfloat16 needs no loss scaling)",
        ),
        ("bf16_full_eval tf32", "use bf16 or precision, which hold for the evaluation too"),
        ("no_cuda use_mps_device", "use use_cpu"),
        ("warmup_ratio", "use warmup_steps (a value below 1 is a share of all steps)"),
        ("data_seed full_determinism", "use seed, for the order of the rows and for dropout"),
        (
            "per_gpu_train_batch_size auto_find_batch_size",
            "use per_device_train_batch_size, with gradient_accumulation_steps if it is too large",
        ),
        (
            "per_gpu_eval_batch_size eval_accumulation_steps eval_do_concat_batches "
            "eval_use_gather_object batch_eval_metrics",
            "use per_device_eval_batch_size; results leave the device batch by batch",
        ),
        ("eval_on_start eval_delay", 'use eval_strategy="steps" with eval_steps'),
        (
            "prediction_loss_only include_for_metrics include_inputs_for_metrics",
            "use compute_metrics, an argument of Trainer; without it only the loss is kept",
        ),
        (
            "optim optim_args optim_target_modules adafactor",
            "use optimizers, an argument of Trainer; adam_beta1 and so on set its own AdamW",
        ),
        (
            "logging_strategy logging_first_step logging_nan_inf_filter log_level "
            "log_level_replica log_on_each_node include_num_input_tokens_seen "
            "include_tokens_per_second",
            "use logging_steps; Trainer.history has the loss and the tokens of every step",
        ),
        (
            "logging_dir run_name project trackio_space_id trackio_bucket_id "
            "trackio_static_space_id",
            'use report_to="none", and callbacks, an argument of Trainer, for a tracker',
        ),
        (
            "overwrite_output_dir save_only_model save_on_each_node save_safetensors "
            "enable_jit_checkpoint",
            'use save_strategy="no" with Trainer.save_model() for the model alone; a checkpoint is '
            "whole, SIGTERM writes one, and none is overwritten",
        ),
        (
            "ignore_data_skip restore_callback_states_from_checkpoint",
            "use resume_from_checkpoint: the place in the data is found at once, callbacks survive",
        ),
        (
            "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push "
            "hub_revision push_to_hub_token push_to_hub_model_id push_to_hub_organization",
            "use output_dir and Trainer.save_model(), and upload that folder",
        ),
        ("label_names remove_unused_columns", "leave it out: data_collator takes what is needed"),
        (
            "dataloader_drop_last dataloader_num_workers dataloader_pin_memory "
            "dataloader_persistent_workers dataloader_prefetch_factor "
            "dataloader_multiprocessing_context dataloader_in_order",
            "leave it out: every row is used, in batches of per_device_train_batch_size",
        ),
        (
            "local_rank ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers "
            "ddp_static_graph ddp_backend ddp_timeout fsdp_config deepspeed "
            "accelerator_config parallelism_config average_tokens_across_devices",
            "leave it out, and start the program with torchrun; fsdp splits the model",
        ),
        (
            "activation_checkpointing activation_checkpointing_kwargs "
            "gradient_checkpointing_kwargs",
            "use gradient_checkpointing",
        ),
        (
            "torch_compile torch_compile_backend torch_compile_mode use_liger_kernel "
            "liger_kernel_config",
            "leave it out: attention is fused already, and precision chooses the fastest numbers",
        ),
        (
            "label_smoothing_factor neftune_noise_alpha",
            "use weight_decay, or the model's dropout, against overfitting",
        ),
        (
            "use_cache debug skip_memory_metrics torch_empty_cache_steps past_index",
            "leave it out: nothing here needs it; logging_steps says how often to tell of a run",
        ),
        ("tokenizer", "use processing_class, an argument of Trainer"),
    )
    for name in names.split()
}
