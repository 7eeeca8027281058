"""Models and adapters: families, loading, LoRA, merging, and the built-in tiny GLM."""
