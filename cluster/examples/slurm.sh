#!/bin/bash
#SBATCH --job-name=designspace
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
# symmetric-run starts Ray on every node of the allocation, runs the command on the head, and stops Ray after it.
# A requeued job resumes: the results folder is on a file system that all nodes share.
set -euo pipefail

export RAY_TMPDIR="/tmp/r$SLURM_JOB_ID" # socket paths must be short; job folders often are not
mkdir -p "$RAY_TMPDIR"
source /shared/designspace/.venv/bin/activate

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
  ray symmetric-run --address "$head_node:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
  designspace run /shared/sweeps/paper.yaml --results /shared/results/paper --address "$head_node:6379" --progress plain
