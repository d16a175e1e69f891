#!/usr/bin/env bash
# Trains on this machine: all the devices that JAX finds, or the CPU.
#
#   launch/local.sh                                  the tiny preset on the built-in corpus
#   launch/local.sh --config.train.steps=100         any key of the configuration
#
# To try a mesh without the hardware, let the CPU stand in for eight devices:
#
#   XLA_FLAGS=--xla_force_host_platform_device_count=8 launch/local.sh \
#     --config.mesh.replica=2 --config.mesh.fsdp=2 --config.mesh.tensor=2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec python -m qwen_audio_jax.main --config="${CONFIG:-configs/pretrain.py}" "$@"
