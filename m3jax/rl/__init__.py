"""Reinforcement learning on the device: policies, replay, rollouts, SAC, probes."""
