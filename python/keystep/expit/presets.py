"""Settings by name, as the tables of a file that has nothing else."""

from __future__ import annotations

from typing import Any

_ADAM = {"weight_decay": 0.0, "schedule": "constant", "warmup_steps": 0, "gradient_clip": 1.0}

EXPIT_PRESETS: dict[str, dict[str, Any]] = {
    # Over states, on two CPU cores: an iteration 0 of twenty minutes, `ft` of a few.
    "small": {
        "demonstrations": {"collect": {"episodes": 100}},
        "planner": {
            "preset": "small", "steps": 4000, "learning_rate": 1e-3, "warmup_steps": 200, "latest_start": 32,
            "normalization": ["mean_std"],
        },
        "controller": {
            "preset": "small", "steps": 4000, "learning_rate": 1e-3, "warmup_steps": 200, "goal_noise": 0.03,
        },
    },
    # HD-ExpIt on Franka-3Blocks: sections 4 and 5, Table 5, appendices B and C.
    "paper": {
        "mode": "standard",
        "iterations": 3,
        "growth": 0.5,
        "finetune_planner": 0.2,
        "finetune_controller": 0.1,
        "without_success": "leave_out",
        "demonstrations": {
            "collect": {"episodes": 100, "preset": "paper", "obs_mode": "rgb", "image_size": 96}
        },
        "planner": {
            **_ADAM,
            "preset": "paper",
            "steps": 100_000,
            "batch_size": 64,
            "learning_rate": 1e-4,
            "betas": [0.9, 0.99],
            "ema_every": 10,
            "subgoal": "observation.images.static",
            "subgoals": 8,
            "steps_per_subgoal": 8,
            "text_encoder": "clip",
            "phrasings": False,
        },
        "controller": {
            **_ADAM,
            "preset": "paper",
            "steps": 300_000,
            "batch_size": 64,
            "learning_rate": 1e-4,
            "ema_decay": 0.0,
            "observe": "images",
            "chunk_lengths": [4, 8],
            "goal_noise": 0.01,
        },
        "rollouts": {
            "reset_per_task": 50,
            "replayed_per_task": 50,
            "trials": 5,
            "guidance": 3.0,
            "max_steps": 65,
            "success_frames": 5,
            "min_steps": 50,
        },
        "evaluation": {"episodes": 100, "max_episode_steps": 360, "guidance": 5.0, "resets": "fresh"},
    },
    # For tests: seconds of work.
    "tiny": {
        "iterations": 1,
        "demonstrations": {"collect": {"episodes": 2}},
        "planner": {
            "preset": "tiny", "steps": 12, "batch_size": 16, "warmup_steps": 3, "checkpoint_every": 4,
            "log_every": 4, "val_fraction": 0.0, "device": "cpu", "threads": 1, "latest_start": 8,
        },
        "controller": {
            "preset": "tiny", "steps": 12, "batch_size": 16, "warmup_steps": 3, "checkpoint_every": 4,
            "log_every": 4, "val_fraction": 0.0, "device": "cpu", "threads": 1,
        },
        "rollouts": {"reset_per_task": 1, "replayed_per_task": 1, "trials": 2},
        "evaluation": {"episodes": 1, "guidance": 2.0},
    },
}  # fmt: skip
