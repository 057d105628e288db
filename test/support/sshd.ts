/** OpenSSH's own server, on loopback, with an account that may only use SFTP and sees one folder. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { atEnd, has, temporaryDir, until } from "./gantry.ts";

/** It needs root for accounts and chroot. */
export const canRunSshd = has("sshd") && process.getuid?.() === 0;

export interface Sshd {
  readonly user: string;
  readonly password: string;
  readonly port: number;
  /** `aspera://USER@127.0.0.1:PORT` */
  readonly site: string;
  /** What the account sees. */
  readonly folder: string;
  /** A private key that opens it. */
  readonly key: string;
  /** A new host key from the next connection on. */
  changeHostKey(): Promise<void>;
  /** Ends all sessions. */
  cut(): void;
  stop(): Promise<void>;
  start(): Promise<void>;
}

export interface SshdOptions {
  /** Lines of `sshd_config`. */
  readonly config?: string;
  /** False: no SFTP. */
  readonly sftp?: boolean;
}

export async function startSshd({ config = "", sftp = true }: SshdOptions = {}): Promise<Sshd> {
  const dir = await temporaryDir();
  // A folder that anybody may write to is no place for a chroot, nor below one (sshd_config(5), ChrootDirectory).
  const folder = await mkdtemp("/srv/gantry-sftp-");
  await chmod(folder, 0o755);
  const user = `gantry-${folder.slice(-6).toLowerCase()}`;
  const password = "a secret of this account";
  const hash = execFileSync("openssl", ["passwd", "-6", password], { encoding: "utf8" }).trim();
  await account("useradd", ["-M", "-N", "-d", "/", "-s", "/bin/bash", "-p", hash, user]);
  const port = await freePort();
  const makeKey = (name: string): void => {
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "t", "-f", join(dir, name)]);
  };
  for (const name of ["host", "host2", "id"]) makeKey(name);
  // Read by the account itself.
  await chmod(dir, 0o755);
  await copyFile(join(dir, "id.pub"), join(dir, "authorized"));
  await chmod(join(dir, "authorized"), 0o644);
  await mkdir("/run/sshd", { recursive: true });
  const lines = [
    ...[
      `Port ${port}`,
      "ListenAddress 127.0.0.1",
      `HostKey ${join(dir, "host")}`,
      `PidFile ${join(dir, "pid")}`,
    ],
    ...[`AuthorizedKeysFile ${join(dir, "authorized")}`, "StrictModes no", "UsePAM no"],
    ...["PasswordAuthentication yes", `AllowUsers ${user}`, "MaxStartups 100", config],
    ...(sftp ? ["Subsystem sftp internal-sftp"] : []),
    ...[`Match User ${user}`, `  ChrootDirectory ${folder}`],
    ...(sftp ? ["  ForceCommand internal-sftp"] : []),
  ];
  await writeFile(join(dir, "config"), `${lines.join("\n")}\n`);
  let child: ReturnType<typeof spawn> | null = null;
  let said = "";
  const start = async (): Promise<void> => {
    child = spawn("/usr/sbin/sshd", ["-D", "-e", "-f", join(dir, "config")], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr?.on("data", (text) => {
      said += String(text);
    });
    const process = child;
    await until("sshd listens", async () => {
      if (process.exitCode !== null) throw new Error(`sshd ended: ${said}`);
      return listens(port);
    });
  };
  const cut = (): void => {
    killAll(childrenOf(child?.pid ?? 0));
  };
  const stop = async (): Promise<void> => {
    const running = child;
    child = null;
    if (!running) return;
    killAll(childrenOf(running.pid ?? 0));
    running.kill("SIGKILL");
    await until("sshd has ended", () => running.exitCode !== null || running.signalCode !== null);
  };
  await start();
  atEnd(async () => {
    await stop();
    await account("userdel", [user]);
    await rm(folder, { recursive: true, force: true });
  });
  return {
    ...{ user, password, port, folder, cut, stop, start },
    site: `aspera://${user}@127.0.0.1:${port}`,
    key: join(dir, "id"),
    changeHostKey: async () => {
      await stop();
      await copyFile(join(dir, "host2"), join(dir, "host"));
      await start();
    },
  };
}

/** Suites beside this one change accounts, too, and a session that was killed may not be over yet. */
async function account(program: string, args: readonly string[]): Promise<void> {
  let said = "";
  await until(`${program} does it`, () => {
    const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
    said = stderr;
    // userdel(8): 8 in use, 10 the file of groups or accounts is locked; useradd(8): 1 the same.
    if (status !== 0 && ![1, 8, 10].includes(status ?? -1)) throw new Error(`${program}: ${said}`);
    return status === 0;
  }).catch((error: unknown) => {
    throw new Error(`${program}: ${said}`, { cause: error });
  });
}

function killAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      // It has ended meanwhile.
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}

/** Each connection has a process, and that one another. */
function childrenOf(pid: number): number[] {
  if (pid === 0) return [];
  const found = spawnText("ps", ["-o", "pid=", "--ppid", String(pid)]);
  const pids = found
    .split(/\s+/u)
    .filter((word) => word !== "")
    .map(Number);
  return [...pids.flatMap(childrenOf), ...pids];
}

function spawnText(command: string, args: string[]): string {
  try {
    return execFileSync(command, args, { encoding: "utf8" });
  } catch {
    // `ps` that finds none ends with 1.
    return "";
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address ? address.port : 0;
}

const listens = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("data", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
    socket.once("close", () => resolve(false));
  });
