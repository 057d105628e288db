/**
 * What is left of quotas for new files in a folder, as `quota` (quota-tools) and `lfs` (Lustre) tell it. Quotas of whole
 * trees (XFS projects, ZFS, CephFS) are what statfs tells already.
 */
import { execFile } from "node:child_process";
import { access, constants, stat } from "node:fs/promises";
import { delimiter, dirname, isAbsolute, join, resolve } from "node:path";

/** Null: no quota limits it, or nobody tells. */
export interface QuotaLeft {
  readonly bytes: number | null;
  readonly inodes: number | null;
}

/** NFS servers that do not answer are not waited for. */
const PATIENCE_MS = 5_000;

/** Never throws: a quota that nobody tells is found out when it is used up. `path` exists. */
export async function readQuota(
  path: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<QuotaLeft> {
  const folder = resolve(path);
  const facts = await stat(folder).catch(() => null);
  const [uid, gid] = [process.geteuid?.(), process.getegid?.()];
  if (facts === null || uid === undefined || gid === undefined) return { bytes: null, inodes: null };
  const ask = (program: string, ...args: string[]): Promise<string> => run(program, args, environment);
  // New files have the group of a folder with the set-group-ID bit (inode(7)).
  const group = (facts.mode & 0o2000) === 0 ? gid : facts.gid;
  const project = /^\s*(\d+)\s/u.exec(await ask("lfs", "project", "-d", folder))?.[1] ?? "0";
  const texts = await Promise.all([
    ask("quota", "-w", "-p", "-u", "-f", await mountOf(folder)),
    ask("quota", "-w", "-p", "-g", "-f", await mountOf(folder)).then((text) => groupSection(text, group)),
    ask("lfs", "quota", "-q", "-u", String(uid), folder),
    ask("lfs", "quota", "-q", "-g", String(group), folder),
    ...(project === "0" ? [] : [ask("lfs", "quota", "-q", "-p", project, folder)]),
  ]);
  const left = texts.flatMap(parseQuota);
  const least = (values: readonly (number | null)[]): number | null => {
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? null : Math.min(...known);
  };
  return { bytes: least(left.map(({ bytes }) => bytes)), inodes: least(left.map(({ inodes }) => inodes)) };
}

/**
 * Rows of `Filesystem blocks quota limit grace files quota limit grace`: blocks of 1024 bytes; `*` marks what is over its quota,
 * brackets what is not known exactly (lfs-quota(1)); a long name has a line of its own. Of the two limits the hard one counts, and
 * the soft one where there is no hard one; 0 is none.
 */
export function parseQuota(text: string): QuotaLeft[] {
  const usage = String.raw`\[?(\d+)\]?\*?\s+(\d+)\*?\s+(\d+)\*?\s+\S+`;
  const rows = text.matchAll(new RegExp(String.raw`(?<=\s)${usage}\s+${usage}(?=\s|$)`, "gu"));
  return [...rows].map((row) => {
    const [used = 0, soft = 0, hard = 0, files = 0, softFiles = 0, hardFiles = 0] = row.slice(1).map(Number);
    const left = (now: number, quota: number, limit: number): number | null =>
      limit === 0 && quota === 0 ? null : Math.max(0, (limit || quota) - now);
    const blocks = left(used, soft, hard);
    return { bytes: blocks === null ? null : blocks * 1024, inodes: left(files, softFiles, hardFiles) };
  });
}

/** What `quota -g` says of one of the groups of a user. */
function groupSection(text: string, group: number): string {
  const sections = text.split(/^(?=Disk quotas for group )/mu);
  return sections.find((section) => section.split("\n")[0]?.includes(`(gid ${group})`)) ?? "";
}

async function mountOf(folder: string): Promise<string> {
  const device = async (path: string): Promise<number | null> =>
    (await stat(path).catch(() => null))?.dev ?? null;
  const here = await device(folder);
  let at = folder;
  while (at !== dirname(at) && (await device(dirname(at))) === here) at = dirname(at);
  return at;
}

/** Its output whatever its exit status, which tells whether something is over its quota; empty when it can't be had. */
async function run(
  program: string,
  args: readonly string[],
  { PATH = "" }: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  // A relative folder in PATH would be a program of whoever owns the working folder.
  const folders = PATH.split(delimiter).filter(isAbsolute);
  // To look is cheaper by far than to start a process that finds nothing.
  const there = await Promise.all(
    folders.map((folder) =>
      access(join(folder, program), constants.X_OK).then(
        () => true,
        () => false,
      ),
    ),
  );
  if (!there.includes(true)) return "";
  const options = {
    env: { PATH: folders.join(delimiter), LC_ALL: "C" },
    timeout: PATIENCE_MS,
    maxBuffer: 1 << 20,
  };
  return new Promise((done) => {
    execFile(program, [...args], options, (_, stdout) => done(stdout)).on("error", () => done(""));
  });
}
