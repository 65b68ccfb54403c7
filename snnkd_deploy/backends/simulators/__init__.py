"""Other simulators, each running the neurons of one file and held to our reference spike for spike.

Convolutions, linear layers and pooling run in torch, as they do for the users of these frameworks; every spiking
population is the framework's own neuron, configured so that its step is NIR's (see `membrane.py`).
"""
