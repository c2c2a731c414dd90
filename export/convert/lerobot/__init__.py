"""LeRobot's policies: ACT and diffusion, from `config.json` and safetensors.

Facts of its formats are from huggingface/lerobot, versions 0.1 to 0.6 (Apache 2.0); nothing of it is needed.
"""
