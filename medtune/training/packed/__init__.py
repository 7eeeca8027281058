"""The forward pass without padding: see docs/packed_forward.md.

install puts it into a trainer's model; forward lays batches out as streams (segments: attention
over one; head: log-probabilities of its labelled tokens); lora makes adapters cheap.
"""
