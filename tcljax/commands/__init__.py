"""The commands behind train.py and convert.py."""
