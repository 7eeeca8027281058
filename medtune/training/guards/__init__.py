"""What watches over a run: signals, numbers that are none, hangs, memory and disk.

Each is a callback of the trainer or a function called once; `events.jsonl` says what they saw.
"""
