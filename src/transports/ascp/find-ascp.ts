/**
 * Where ascp is on this machine, and a key for servers that know their users by a token. Facts: product folders as
 * IBM/aspera-cli 4.26 (lib/aspera/ascp/products), IBM Aspera Connect 4.2 and IBM Aspera for Desktop install them; conda's
 * `hcc::aspera-cli` keeps its keys in `etc` of the environment.
 */
import { constants } from "node:fs";
import { access, readdir, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, dirname, isAbsolute, join, resolve } from "node:path";
import { RunError } from "../../errors.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface FoundAscp {
  /** Absolute. */
  readonly path: string;
  /** Who named it, or which product it is of, for people. */
  readonly from: string;
}

const windows = process.platform === "win32";
const NAME = windows ? "ascp.exe" : "ascp";

const homeOf = (environment: Environment): string => environment.HOME || homedir();

/** Where `gantry ascp install` puts it. */
export function installFolder(environment: Environment): string {
  const data = environment.XDG_DATA_HOME || join(homeOf(environment), ".local", "share");
  return join(data, "gantry", "aspera-sdk");
}

/**
 * A file as people name it: a plain path, or as ascli has it, `file:///x` (relative to the working folder) and
 * `file:////x` (absolute). Null for another URL.
 */
export function readFileWord(word: string): string | null {
  const named = /^file:\/\/\/(.*)$/isu.exec(word)?.[1];
  if (named !== undefined) return resolve(named);
  return /^[a-z][a-z0-9+.-]*:\/\//iu.test(word) ? null : resolve(word);
}

/** Folders of products, the likeliest first: what they are called, and where the program is. */
function productFolders(environment: Environment): readonly (readonly [string, string])[] {
  const home = homeOf(environment);
  const local = environment.LOCALAPPDATA ?? join(home, "AppData", "Local");
  const programs = environment.ProgramFiles ?? "C:\\Program Files";
  const mac = (app: string): string[] => [join(home, "Applications", app), join("/Applications", app)];
  return [
    ["gantry ascp install", installFolder(environment)],
    ["the Transfer SDK", join(home, ".aspera", "sdk")],
    ["ascli", join(home, ".aspera", "ascli", "sdk")],
    ["IBM Aspera for Desktop", "/Applications/IBM Aspera.app/Contents/Resources/transferd/bin"],
    ["Aspera Connect", join(home, ".aspera", "connect", "bin")],
    ...mac("IBM Aspera Connect.app/Contents/Resources").map((path) => ["Aspera Connect", path] as const),
    ...mac("Aspera Connect.app/Contents/Resources").map((path) => ["Aspera Connect", path] as const),
    ["Aspera Connect", join(local, "Programs", "Aspera", "Aspera Connect", "bin")],
    ["Aspera Connect", join(programs, "IBM", "Aspera Connect", "bin")],
    ["the Aspera CLI 3", join(home, ".aspera", "cli", "bin")],
    ["the Aspera CLI 3", join(home, "Applications", "Aspera CLI", "bin")],
    ["the Aspera CLI 3", join(programs, "Aspera", "cli", "bin")],
    ["an Aspera server", "/opt/aspera/bin"],
    ["an Aspera server", "/Library/Aspera/bin"],
    ["an Aspera server", join(programs, "Aspera", "Enterprise Server", "bin")],
    ["Aspera Drive", "/Applications/Aspera Drive.app/Contents/Resources"],
  ];
}

const isProgram = async (path: string): Promise<boolean> =>
  (await stat(path).catch(() => null))?.isFile() === true &&
  (await access(path, constants.X_OK).then(
    () => true,
    () => false,
  ));

/** `named`: what the user says (`--ascp`). Null when none is found. Throws `usage` when what was named is none. */
export async function findAscp(environment: Environment, named?: string): Promise<FoundAscp | null> {
  for (const [word, from] of [
    [named, "--ascp"],
    [environment.GANTRY_ASCP, "GANTRY_ASCP"],
  ] as const) {
    if (word === undefined || word === "") continue;
    const path = readFileWord(word);
    for (const each of path === null ? [] : [path, join(path, NAME), join(path, "bin", NAME)])
      if (await isProgram(each)) return { path: each, from };
    throw new RunError("usage", `${from} names ${word}, which is no program`, {
      hint: "name the file ascp itself, or leave it out to have it found",
    });
  }
  for (const [from, folder] of productFolders(environment)) {
    for (const path of [join(folder, NAME), join(folder, "bin", NAME)])
      if (await isProgram(path)) return { path, from };
  }
  for (const folder of (environment.PATH ?? "").split(delimiter)) {
    // A relative folder in PATH would be a program of whoever owns the working folder.
    if (isAbsolute(folder) && (await isProgram(join(folder, NAME))))
      return { path: join(folder, NAME), from: "PATH" };
  }
  return null;
}

export const noAscp = (): RunError =>
  new RunError("usage", "ascp, IBM's program for Aspera transfers, is not on this machine", {
    hint: "get it with `gantry ascp install`, or name yours with --ascp PATH or GANTRY_ASCP",
  });

/** Names of keys that servers accept for users with a token, RSA before the DSA that no server takes any more. */
const KEY_NAMES = [
  "aspera_bypass_rsa.pem",
  "aspera_tokenauth_id_rsa",
  "asperaweb_id_dsa.openssh",
  "aspera_tokenauth_id_dsa",
  "aspera_bypass_dsa.pem",
];

/**
 * A key file for token transfers: beside ascp, in the `etc` next to its folder, in those of other products. Null: there
 * is none. `ASPERA_SCP_KEY` and a named file go before it; they are the caller's.
 */
export async function findTokenKey(ascp: string, environment: Environment): Promise<string | null> {
  const beside = dirname(ascp);
  const folders = [beside, join(beside, "..", "etc"), join(beside, "etc")];
  for (const [, folder] of productFolders(environment)) folders.push(folder, join(folder, "..", "etc"));
  for (const name of KEY_NAMES) {
    for (const folder of folders) {
      const path = join(folder, name);
      if ((await stat(path).catch(() => null))?.isFile()) return path;
    }
  }
  return null;
}

export const noKey = (where: string): RunError =>
  new RunError("access-login", `${where}: no key for the transfer is on this machine`, {
    hint: "IBM Aspera Connect brings one (aspera_tokenauth_id_rsa in its etc folder); name a key file with --key",
  });

/** The licence file that ascp will use; null: there is none beside it. */
export async function findLicence(ascp: string): Promise<string | null> {
  const beside = dirname(ascp);
  for (const folder of [beside, join(beside, "..", "etc"), join(beside, "etc")]) {
    const names = await readdir(folder).catch(() => [] as string[]);
    const name = names.find((each) => /^aspera-license/u.test(each));
    if (name !== undefined) return resolve(folder, name);
  }
  return null;
}
