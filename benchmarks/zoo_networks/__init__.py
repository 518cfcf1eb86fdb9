"""Small networks in five frameworks, such as people bring; benchmarks/zoo.py converts them all."""
