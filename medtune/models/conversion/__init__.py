"""Old `chatglm` checkpoints and adapters made into native `glm` ones; their own code never runs."""
