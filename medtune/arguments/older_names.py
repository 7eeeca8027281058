"""Names of options in older scripts, MedicalGPT's and ChatGLM2's, and what becomes of them."""

# A new name: the same meaning.
RENAMED = {
    "model_max_length": "max_length",
    "evaluation_strategy": "eval_strategy",
    "model_revision": "revision",
    "warmup_ratio": "warmup_steps",  # a value below 1 is a share of all steps
    "tokenizer_name": "tokenizer_name_or_path",
    "ptuning_checkpoint": "peft_path",
    "train_file": "train_file_dir",
    "dataset_name": "train_file_dir",
    "validation_file": "validation_file_dir",
}
# A sentence: why nothing is left to set.
OBSOLETE = {
    "group_by_length": "text is always packed into blocks, and rows are never sorted by length",
    "sortish_sampler": "rows are never sorted by length",
    "overwrite_output_dir": "a folder that holds another run is never overwritten",
    "overwrite_cache": "rows in the cache are used only for the same data, tokenizer and options",
    "preprocessing_num_workers": "a fast tokenizer uses all cores by itself",
    "streaming": "rows are read from disk, never held in memory whole",
    "keep_linebreaks": "line breaks are always kept",
    "pad_to_max_length": "padding is not computed",
    "ignore_pad_token_for_loss": "padding never carries loss",
    "min_target_length": "answers of every length are kept",
    "lang": "scores are counted over Chinese words and characters",
    "num_beams": "replies at an evaluation take the most likely token each time",
    "generation_num_beams": "replies at an evaluation take the most likely token each time",
    "generation_max_length": "--sample_max_new_tokens says how long replies at an evaluation are",
    "val_max_target_length": "--sample_max_new_tokens says how long replies at an evaluation are",
    "device_map": "each process takes one device; DeepSpeed spreads a model over several",
    "flash_attn": "the fastest attention that the machine has is chosen",
    "template_name": "the chat template comes with the model's tokenizer",
    "use_fast_tokenizer": "fast tokenizers are always used",
    "config_name": "the configuration comes with the model",
    "resize_position_embeddings": "positions are computed, there is no table of them to resize",
    "use_auth_token": "the hub's own login is used (hf auth login, or HF_TOKEN)",
    "hf_hub_token": "the hub's own login is used (hf auth login, or HF_TOKEN)",
}
# The same for options that the trainers declare themselves, and nothing here reads.
UNREAD = {
    "do_train": "a stage always trains",
    "do_eval": "a stage always evaluates; --eval_strategy says when",
    "trust_remote_code": "code that comes with a checkpoint is never run",
    "dataset_num_proc": "a fast tokenizer uses all cores by itself",
}
# What cannot be done here, and what can; False is no wish for it.
IMPOSSIBLE = {
    "do_predict": "a stage trains; evaluation.py measures a trained model",
    "test_file": "a stage trains; evaluation.py measures a trained model",
    "train_on_inputs": "only replies are learnt: what a person says is given when the model runs",
    "source_prefix": "write it into the questions themselves, or chat would not have it",
    "rope_scaling": "set rope_parameters in the config.json of the model, which chat reads too",
    "shift_attn": "attention is always exact; the packed forward has no padding to save",
}
