"""The scoring command: files of gold and predictions in, the metrics out."""
