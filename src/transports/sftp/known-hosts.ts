/**
 * Which key a server is known by: lists in the form of OpenSSH's `known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
 * The user's and the machine's own lists are read; a server met for the first time is written into one of ours, as
 * `StrictHostKeyChecking=accept-new` does (ssh_config(5)).
 */
import { createHash, createHmac } from "node:crypto";
import { appendFile, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { RunError } from "../../errors.ts";
import { ensureFolder, onDisk } from "../../lib/durable-file.ts";

export interface KnownHosts {
  /** Types of the keys that the server is known by, e.g. `ssh-ed25519`; empty: it is met for the first time. */
  readonly types: readonly string[];
  /**
   * `known`, or `new` for a server that no list names. Throws `access-denied` for a key that is another than the known
   * one, or that was revoked.
   */
  check(key: Uint8Array): "known" | "new";
  /** Remembers the key of a server that is new. */
  remember(key: Uint8Array): Promise<void>;
}

export interface KnownHostsFiles {
  /** Ours: read and written; may not exist. */
  readonly own: string;
  /** Only read. */
  readonly others: readonly string[];
}

interface Line {
  readonly path: string;
  readonly number: number;
  readonly marker: string | null;
  readonly type: string;
  readonly key: string;
}

/** As OpenSSH names a server in its lists: the port only where it is not 22. */
export const hostName = (host: string, port: number): string =>
  port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`;

export async function readKnownHosts(
  host: string,
  port: number,
  { own, others }: KnownHostsFiles,
): Promise<KnownHosts> {
  const name = hostName(host, port);
  const lines: Line[] = [];
  for (const path of [own, ...others]) lines.push(...(await readLines(path, name)));
  const keys = lines.filter(({ marker }) => marker === null);
  return {
    types: [...new Set(keys.map(({ type }) => type))],
    check(key) {
      const text = Buffer.from(key).toString("base64");
      const revoked = lines.find((line) => line.marker === "@revoked" && line.key === text);
      if (revoked) {
        throw new RunError(
          "access-denied",
          `${host}: its key was revoked (${revoked.path}:${revoked.number})`,
        );
      }
      if (keys.some((line) => line.key === text)) return "known";
      const [other] = keys;
      if (!other) return "new";
      throw new RunError(
        "access-denied",
        `${host} shows another key than the known one (${fingerprint(key)}): it is not the server it was, or somebody is between`,
        {
          hint: `ask those who run it; if it has a new key, remove the old one: ssh-keygen -R '${name}' -f '${other.path}'`,
        },
      );
    },
    async remember(key) {
      const bytes = Buffer.from(key);
      const line = `${name} ${typeOf(bytes)} ${bytes.toString("base64")}\n`;
      await ensureFolder(dirname(own));
      await onDisk({ operation: "write", path: own }, () => appendFile(own, line, { mode: 0o600 }));
    },
  };
}

/** As OpenSSH shows keys. */
export const fingerprint = (key: Uint8Array): string =>
  `SHA256:${createHash("sha256").update(key).digest("base64").replace(/=+$/u, "")}`;

/** The type is the first string of the key itself (RFC 4253, 6.6). */
const typeOf = (key: Buffer): string => key.toString("latin1", 4, 4 + key.readUInt32BE(0));

async function readLines(path: string, name: string): Promise<Line[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  const found: Line[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const words = line.trim().split(/\s+/u);
    const marker = words[0]?.startsWith("@") ? (words.shift() as string) : null;
    const [hosts = "", type = "", key = ""] = words;
    // Keys of authorities vouch for certificates, which are not asked for here.
    if (hosts === "" || hosts.startsWith("#") || key === "" || marker === "@cert-authority") continue;
    if (matches(hosts, name)) found.push({ path, number: index + 1, marker, type, key });
  }
  return found;
}

/** A hashed name, or patterns with `*`, `?` and `!`. */
function matches(hosts: string, name: string): boolean {
  if (hosts.startsWith("|1|")) {
    const [, , salt = "", hash = ""] = hosts.split("|");
    return createHmac("sha1", Buffer.from(salt, "base64")).update(name).digest("base64") === hash;
  }
  let found = false;
  for (const each of hosts.split(",")) {
    const pattern = each.replace(/^!/u, "");
    if (!patternOf(pattern).test(name)) continue;
    if (each.startsWith("!")) return false;
    found = true;
  }
  return found;
}

function patternOf(text: string): RegExp {
  const escaped = text.toLowerCase().replaceAll(/[.+^${}()|[\]\\]/gu, "\\$&");
  return new RegExp(`^${escaped.replaceAll("*", ".*").replaceAll("?", ".")}$`, "u");
}
