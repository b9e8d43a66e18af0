"""What comes from outside, made up a million times: an answer or the documented refusal, and nothing else."""
