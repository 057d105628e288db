/** The command line of ascp 4 (IBM Aspera's manual of the transfer server, "ascp command reference"), as far as clients use it. */

/** `flag`: takes nothing; `value`: takes one. Short ones may be glued: `-QTl 100m`, `-P33001`. */
const SHORT: Readonly<Record<string, "flag" | "value">> = {
  h: "flag",
  A: "flag",
  q: "flag",
  v: "flag",
  Q: "flag",
  T: "flag",
  d: "flag",
  p: "flag",
  r: "flag",
  "6": "flag",
  c: "value",
  l: "value",
  m: "value",
  k: "value",
  K: "value",
  i: "value",
  P: "value",
  O: "value",
  Z: "value",
  g: "value",
  G: "value",
  X: "value",
  L: "value",
  R: "value",
  u: "value",
  C: "value",
  E: "value",
  N: "value",
  W: "value",
  M: "value",
  f: "value",
  S: "value",
  w: "value",
  "@": "value",
  y: "value",
  t: "value",
  Y: "value",
  I: "value",
  x: "value",
  j: "value",
  o: "value",
  e: "value",
  D: "value",
};

const LONG: Readonly<Record<string, "flag" | "value">> = {
  help: "flag",
  version: "flag",
  quiet: "flag",
  dest64: "flag",
  "allow-password-prompt": "flag",
  "apply-local-docroot": "flag",
  "check-sshfp": "value",
  "delete-before-transfer": "flag",
  "exclude-newer-than": "value",
  "exclude-older-than": "value",
  "fail-bad-filepass": "flag",
  "file-checksum": "value",
  "file-crypt": "value",
  "file-list": "value",
  "file-manifest": "value",
  "file-manifest-inprogress-suffix": "value",
  "file-manifest-path": "value",
  "file-pair-list": "value",
  host: "value",
  "ignore-host-key": "flag",
  keepalive: "flag",
  mode: "value",
  "move-after-transfer": "value",
  "multi-session-threshold": "value",
  "no-read": "flag",
  "no-write": "flag",
  overwrite: "value",
  "partial-file-suffix": "value",
  policy: "value",
  "precalculate-disable": "flag",
  "precalculate-job-size": "flag",
  "preserve-access-time": "flag",
  "preserve-acls": "value",
  "preserve-creation-time": "flag",
  "preserve-file-owner-gid": "flag",
  "preserve-file-owner-uid": "flag",
  "preserve-modification-time": "flag",
  "preserve-source-access-time": "flag",
  "preserve-xattrs": "value",
  proxy: "value",
  "remote-preserve-acls": "value",
  "remote-preserve-xattrs": "value",
  "remove-after-transfer": "flag",
  "remove-empty-directories": "flag",
  "remove-empty-source-directory": "flag",
  "remove-skipped": "flag",
  "retry-timeout": "value",
  "save-before-overwrite": "flag",
  "skip-dir-traversal-dupes": "flag",
  "skip-special-files": "flag",
  "source-prefix": "value",
  "source-prefix64": "value",
  "src-base": "value",
  "src-base64": "value",
  "ssh-arg": "value",
  "symbolic-links": "value",
  tags: "value",
  tags64: "value",
  user: "value",
  "ws-connect": "flag",
};

/** What the manual calls by a short name only is kept by it; those with two names by the long one. */
const LONG_NAME: Readonly<Record<string, string>> = { h: "help", A: "version", q: "quiet" };

export class UsageFault extends Error {}

export interface Arguments {
  /** By name without dashes; of one that was given several times the last. */
  readonly options: ReadonlyMap<string, string>;
  /** Of `-i`, `-E`, `-N`: all, in order. */
  readonly repeated: ReadonlyMap<string, readonly string[]>;
  readonly words: readonly string[];
}

/** Throws `UsageFault` with ascp's kind of sentence. */
export function parseArguments(argv: readonly string[]): Arguments {
  const options = new Map<string, string>();
  const repeated = new Map<string, string[]>();
  const words: string[] = [];
  const set = (name: string, value: string): void => {
    options.set(name, value);
    repeated.set(name, [...(repeated.get(name) ?? []), value]);
  };
  const queue = [...argv];
  while (queue.length > 0) {
    const word = queue.shift()!;
    if (word === "--") {
      words.push(...queue.splice(0));
    } else if (word === "-SSH" || word === "-no-mgmt-port-files") {
      set(word.slice(1), "");
    } else if (word.startsWith("-D")) {
      set("D", word.slice(2));
    } else if (word.startsWith("--")) {
      const [, name = "", , glued] = /^--([^=]+)(=([\s\S]*))?$/.exec(word) ?? [];
      const form = LONG[name];
      if (form === undefined) throw new UsageFault(`unrecognized option '--${name}'`);
      if (form === "flag" && glued !== undefined)
        throw new UsageFault(`option '--${name}' doesn't allow an argument`);
      const value = form === "flag" ? "" : (glued ?? queue.shift());
      if (value === undefined) throw new UsageFault(`option '--${name}' requires an argument`);
      set(name, value);
    } else if (word.startsWith("-") && word !== "-") {
      for (let at = 1; at < word.length; at++) {
        const letter = word[at]!;
        const form = SHORT[letter];
        if (form === undefined) throw new UsageFault(`invalid option -- '${letter}'`);
        if (form === "flag") {
          set(LONG_NAME[letter] ?? letter, "");
          continue;
        }
        const value = at + 1 < word.length ? word.slice(at + 1) : queue.shift();
        if (value === undefined) throw new UsageFault(`option requires an argument -- '${letter}'`);
        set(letter, value);
        break;
      }
    } else {
      words.push(word);
    }
  }
  // Settings of the old style: `-o FileCrypt=decrypt` is `--file-crypt=decrypt`.
  for (const setting of repeated.get("o") ?? []) {
    const [key = "", value = ""] = setting.split(/=(.*)/s);
    const name = key.replace(/(?!^)([A-Z])/g, "-$1").toLowerCase();
    if (LONG[name] === undefined) throw new UsageFault(`unknown setting ${key}`);
    options.set(name, value);
  }
  return { options, repeated, words };
}

/** `300m`, `1g`, `10000` (kbps): in kbps; undefined for what is no rate. */
export function parseRate(text: string): number | undefined {
  const [, digits, unit = "k"] = /^(\d+(?:\.\d+)?)([kmg])?$/i.exec(text) ?? [];
  if (digits === undefined) return undefined;
  return Number(digits) * { k: 1, m: 1000, g: 1_000_000 }[unit.toLowerCase() as "k" | "m" | "g"];
}
