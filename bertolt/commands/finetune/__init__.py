"""The main job: a file and a checkpoint in, a measured model out."""
