"""Fakes of the ports, for tests of delivery and for the simulation: a hub in memory and peers without a wire."""
