/**
 * The one script of a job array. It plans, submits its tasks and its end, and is what each of them runs, so that
 * `sbatch x.sh` and, where there is no Slurm, `./x.sh` need nothing but this file. Pure.
 */

export interface JobFacts {
  /** What is fetched, for people. */
  readonly title: string;
  readonly version: string;
  /** Job name. */
  readonly name: string;
  /** Where relative paths of the arguments begin. */
  readonly cwd: string;
  /** The target folder, absolute. */
  readonly dir: string;
  /** The program as words: interpreter, script. */
  readonly program: readonly string[];
  /** Arguments that plan; they print the array's name and how many tasks are of use. */
  readonly plan: readonly string[];
  /** Further arguments of each task and of the end. */
  readonly task: readonly string[];
  readonly finish: readonly string[];
  /** Tasks that run at once at most. */
  readonly atOnce: number;
  /** Variables that the program needs wherever it runs; no secrets. */
  readonly environment: Readonly<Record<string, string>>;
  /** Further options of sbatch, each as one word: `--partition=long`. */
  readonly sbatch: readonly string[];
}

/** How long before the end of its time a task is told, in seconds. */
const NOTICE_SECONDS = 120;

/** A word as bash reads it back. */
const quoted = (word: string): string =>
  /^[A-Za-z0-9_@%+=:,./-]+$/u.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
const words = (list: readonly string[]): string => list.map(quoted).join(" ");
/** Inside a comment. */
const told = (text: string): string => text.replace(/[\r\n]+/gu, " ");

/** Whether options of sbatch say where the logs go. */
export const namesOutput = (sbatch: readonly string[]): boolean =>
  sbatch.some((each) => /^(-o|--output)/u.test(each));

export function buildScript(facts: JobFacts): string {
  const { name, sbatch } = facts;
  const directives = [
    `--job-name=${name}`,
    "--nodes=1",
    "--ntasks=1",
    "--cpus-per-task=2",
    "--mem=1G",
    // A pre-empted task and one of a lost node is queued again and goes on.
    "--requeue",
    "--open-mode=append",
    // To the batch shell alone, which the program has replaced.
    `--signal=B:USR1@${NOTICE_SECONDS}`,
    // Secrets in the environment stay out of Slurm's own files.
    "--export=HOME,USER,LOGNAME,PATH",
    ...sbatch,
  ];
  // Not as a directive: before the first plan there is no such folder.
  const outputTo = (log: string): string => (namesOutput(sbatch) ? "" : ` --output="$logs/${log}"`);
  return `#!/bin/bash
${directives.map((each) => `#SBATCH ${each}`).join("\n")}
#
# ${told(facts.title)}
# Written by gantry ${facts.version}.
#
#   sbatch FILE   plans, then queues the tasks and a last job that proves that all is there
#   ./FILE        the same; without Slurm (or as ./FILE here) everything runs on this machine
set -u
cd ${quoted(facts.cwd)} || exit 7
${Object.entries(facts.environment)
  .map(([key, value]) => `export ${key}=${quoted(value)}\n`)
  .join("")}gantry=(${words(facts.program)})
dir=${quoted(facts.dir)}
# In names of logs a percent sign is Slurm's.
logs=\${dir//%/%%}/.gantry/logs

task() { # ARRAY NUMBER
  exec "\${gantry[@]}" slurm task "$dir" --array "$1" --task "$2" ${words(facts.task)}
}
finish() { # ARRAY
  exec "\${gantry[@]}" slurm finish "$dir" --array "$1" ${words(facts.finish)}
}

case \${1:-submit} in
  task) task "$2" "\${SLURM_ARRAY_TASK_ID:?is set by sbatch --array}" ;;
  finish) finish "$2" ;;
  submit | here) ;;
  *)
    echo "$0: it takes nothing, or the word here" >&2
    exit 2
    ;;
esac

refused() {
  "\${gantry[@]}" stop "$dir" >/dev/null 2>&1
  echo "gantry: sbatch took no job for the reason above; what was asked for is kept. Go on with: gantry slurm resume $(printf %q "$dir"), or on this machine: gantry get -o $(printf %q "$dir")" >&2
  exit 2
}

plan=$("\${gantry[@]}" ${words(facts.plan)}) || exit
read -r array tasks <<<"$plan"
[ "$tasks" -gt 0 ] || finish "$array"

if [ "\${1:-submit}" = submit ] && command -v sbatch >/dev/null 2>&1; then
  job=$(sbatch --parsable --array="0-$((tasks - 1))%${facts.atOnce}"${outputTo("slurm-%x-%A_%a.log")} "$0" task "$array") || refused
  job=\${job%%;*}
  end=$(sbatch --parsable --dependency="afterany:$job" --job-name=${quoted(`${name}-end`)}${outputTo("slurm-%x-%j.log")} "$0" finish "$array") || { scancel "$job"; refused; }
  [ "$tasks" -eq 1 ] && noun=task || noun=tasks
  echo "array $array: $tasks $noun in job $job, its end in job \${end%%;*}"
  echo "To look on: gantry status $(printf %q "$dir") --watch" >&2
  exit
fi

[ "\${1:-submit}" = here ] || echo "There is no sbatch here: the tasks run on this machine, and tell what they do in $dir/.gantry/logs." >&2
running=()
for ((number = 0; number < tasks && number < ${facts.atOnce}; number++)); do
  task "$array" "$number" >>"$dir/.gantry/logs/$array-$number.log" 2>&1 &
  running+=($!)
done
stopped=
trap 'stopped=yes; kill -TERM "\${running[@]}" 2>/dev/null' INT TERM
for child in "\${running[@]}"; do
  while kill -0 "$child" 2>/dev/null; do wait "$child"; done
done
[ -z "$stopped" ] || exit 143
finish "$array"
`;
}
