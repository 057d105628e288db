#!/bin/bash
# slurm-down.sh DIR: ends what slurm-up.sh started, and what its jobs left.
D=$(cd "$1" && pwd) || exit
export SLURM_CONF=$D/etc/slurm.conf
scancel -u "$(id -un)" 2>/dev/null
for _ in $(seq 30); do
  [ -z "$(squeue -h 2>/dev/null)" ] && break
  sleep .2
done
P=$(cat "$D"/slurmd-*.pid "$D/slurmctld.pid" "$D/munge/pid" 2>/dev/null)
for q in /proc/[0-9]*; do
  grep -qsa '^slurmstepd' "$q/cmdline" && ls -l "$q/cwd" "$q/fd" 2>/dev/null | grep -q "$D/" && P="$P ${q#/proc/}"
done
kill $P 2>/dev/null
for _ in $(seq 50); do
  kill -0 $P 2>/dev/null || break
  sleep .1
done
kill -9 $P 2>/dev/null
rm -rf "$D"
