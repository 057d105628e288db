#!/bin/bash
# slurm-up.sh DIR NODES PORT: a Slurm cluster of several slurmd on this machine, ready when it returns.
set -eu
export PATH=$PATH:/usr/sbin:/sbin
D=$(mkdir -p "$1" && cd "$1" && pwd)
N=$2
P=$3
H=$(hostname -s)
M=$D/munge
umask 022
mkdir -p "$D"/{etc,munge,state,log,spool}
dd if=/dev/urandom bs=1 count=1024 of="$M/key" status=none
chmod 400 "$M/key"
munged -f -S "$M/sock" --key-file="$M/key" --pid-file="$M/pid" --log-file="$M/log" --seed-file="$M/seed"
printf 'CgroupAutomount=no\nCgroupPlugin=cgroup/v1\n' >"$D/etc/cgroup.conf"
C=$D/etc/slurm.conf
cat >"$C" <<E
ClusterName=t
SlurmctldHost=$H(127.0.0.1)
SlurmctldPort=$P
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$M/sock,cred_expire=1
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
JobRequeue=1
MinJobAge=600
KillWait=30
SlurmdTimeout=5
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/slurmctld.pid
SlurmdPidFile=$D/slurmd-%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd-%n.log
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
E
for i in $(seq "$N"); do
  mkdir -p "$D/spool/n$i"
  echo "NodeName=n$i NodeHostname=$H NodeAddr=127.0.0.1 Port=$((P + 100 + i)) CPUs=4 RealMemory=2000 State=UNKNOWN" >>"$C"
done
echo "PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP" >>"$C"
export SLURM_CONF=$C
slurmctld -c
# Each node has a host name of its own, which what it runs inherits: so processes of two nodes know that they are on two.
for i in $(seq "$N"); do unshare --uts sh -c 'hostname "$0" && exec slurmd -c -N "$0"' "n$i"; done
for _ in $(seq 300); do
  [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" = "$N" ] && exit 0
  sleep .2
done
tail -n 5 "$D"/log/*.log >&2
exit 1
