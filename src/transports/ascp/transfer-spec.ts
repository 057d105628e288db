/**
 * From a transfer specification to a command line of ascp. Pure. Facts: the parameter list of IBM/aspera-cli 4.26
 * (lib/aspera/transfer/spec.schema.yaml) and the ascp manual of IBM Aspera HSTS 4.4. Secrets are in the environment of
 * the result and nowhere else.
 */
import { RunError } from "../../errors.ts";
import type { Json } from "../../model/item.ts";

/** Keys verbatim from the wire; what ascp does not know is ignored, as all clients do. */
export interface TransferSpec {
  readonly direction: "receive" | "send";
  readonly remote_host: string;
  readonly remote_user?: string;
  readonly ssh_port?: number;
  readonly fasp_port?: number;
  /** With a `destination` in each: a pair list, names below the destination. */
  readonly paths: readonly { readonly source: string; readonly destination?: string }[];
  readonly [key: string]: Json | undefined;
}

export interface AscpCall {
  /** Between `-M PORT` and the destination; no secrets. */
  readonly args: readonly string[];
  /** Variables with secrets. */
  readonly env: Readonly<Record<string, string>>;
  /** Content of the list file, and the option that names it. */
  readonly list: { readonly option: "--file-list" | "--file-pair-list"; readonly text: string };
  /** Keys that were ignored. */
  readonly ignored: readonly string[];
}

export const RESUME_LEVELS: Readonly<Record<string, number>> = {
  none: 0,
  attrs: 1,
  attributes: 1,
  sparse_csum: 2,
  sparse_checksum: 2,
  full_csum: 3,
  full_checksum: 3,
};

/** Not for ascp, and no reason for a note. */
const OTHERS = new Set(
  (
    "authentication title fasp_url cipher_allowed rate_policy_allowed target_rate_cap_kbps min_rate_cap_kbps " +
    "retry_duration remote_access_key source_root_id destination_root_id icos fasp_proxy compression read_threads " +
    "write_threads xfer_max_retries password obfuscate_file_names download_name zip_required lock_rate_policy " +
    "lock_min_rate lock_min_rate_kbps lock_target_rate lock_target_rate_kbps use_ascp4 direction paths multi_session " +
    "destination_root"
  ).split(" "),
);

/** Options that have the key's own name with hyphens, and take no value. */
const SWITCHES = new Set(
  (
    "preserve_modification_time preserve_access_time preserve_creation_time preserve_source_access_time " +
    "preserve_file_owner_uid preserve_file_owner_gid remove_after_transfer remove_empty_directories " +
    "remove_empty_source_directory remove_skipped delete_before_transfer save_before_overwrite skip_special_files " +
    "apply_local_docroot keepalive fail_bad_filepass"
  ).split(" "),
);

/** Options with a value. */
const VALUES: Readonly<Record<string, string>> = {
  remote_host: "--host",
  remote_user: "--user",
  rate_policy: "--policy",
  target_rate_kbps: "-l",
  min_rate_kbps: "-m",
  overwrite: "--overwrite",
  symlink_policy: "--symbolic-links",
  file_checksum: "--file-checksum",
  preserve_acls: "--preserve-acls",
  preserve_extended_attrs: "--preserve-xattrs",
  preserve_remote_acls: "--remote-preserve-acls",
  preserve_remote_extended_attrs: "--remote-preserve-xattrs",
  dgram_size: "-Z",
  proxy: "--proxy",
  multi_session_threshold: "--multi-session-threshold",
  move_after_transfer: "--move-after-transfer",
  exclude_newer_than: "--exclude-newer-than",
  exclude_older_than: "--exclude-older-than",
  content_protection: "--file-crypt",
  src_base64: "--src-base64",
  tags64: "--tags64",
};

const SECRETS: Readonly<Record<string, string>> = {
  token: "ASPERA_SCP_TOKEN",
  cookie: "ASPERA_SCP_COOKIE",
  remote_password: "ASPERA_SCP_PASS",
  ssh_private_key: "ASPERA_SCP_KEY",
  ssh_private_key_passphrase: "ASPERA_SCP_PASS",
  content_protection_password: "ASPERA_SCP_FILEPASS",
};

const base64 = (text: string): string => Buffer.from(text).toString("base64");

/** Throws `usage` for a path that no list file can hold. */
export function buildAscpCall(spec: TransferSpec): AscpCall {
  const args: string[] = [spec.direction === "receive" ? "--mode=recv" : "--mode=send"];
  const env: Record<string, string> = {};
  const ignored: string[] = [];
  const webSocket = spec.wss_enabled === true && typeof spec.wss_port === "number";
  for (const [key, value] of Object.entries(spec)) {
    if (value === undefined || value === null || OTHERS.has(key)) continue;
    if (SECRETS[key] !== undefined) {
      env[SECRETS[key]] = String(value);
    } else if (SWITCHES.has(key)) {
      if (isTrue(value)) args.push(`--${key.replaceAll("_", "-")}`);
    } else if (VALUES[key] !== undefined) {
      args.push(...option(VALUES[key], String(value)));
    } else if (!special(key, value, { args, env, webSocket })) ignored.push(key);
  }
  return { args, env, list: buildList(spec), ignored };
}

const option = (name: string, value: string): string[] =>
  name.startsWith("--") ? [`${name}=${value}`] : [name, value];

const isTrue = (value: Json): boolean => value === true || value === 1 || value === "true" || value === "1";

/** Keys with rules of their own. False: not known. */
function special(
  key: string,
  value: Json,
  { args, env, webSocket }: { args: string[]; env: Record<string, string>; webSocket: boolean },
): boolean {
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  switch (key) {
    case "ssh_port":
      if (!webSocket) args.push("-P", text);
      return true;
    case "fasp_port":
      if (!webSocket) args.push("-O", text);
      return true;
    case "sshfp":
      if (!webSocket && text !== "") args.push(`--check-sshfp=${text}`);
      return true;
    case "wss_enabled":
      if (webSocket) args.push("--ws-connect");
      return true;
    case "wss_port":
      if (webSocket) args.push("-P", text);
      return true;
    case "source_root":
      if (text !== "") args.push(`--source-prefix64=${base64(text)}`);
      return true;
    case "src_base":
      args.push(`--src-base64=${base64(text)}`);
      return true;
    case "create_dir":
      if (isTrue(value)) args.push("-d");
      return true;
    case "preserve_times":
      if (isTrue(value)) args.push("-p");
      return true;
    case "tags":
      args.push(`--tags64=${base64(JSON.stringify(value))}`);
      return true;
    case "ssh_private_key_path":
      args.push("-i", text);
      return true;
    case "cipher":
      // `aes-128` of the specification is `aes128` of the program; `-T` is its word for none.
      if (text === "none") args.push("-T");
      else args.push("-c", text.replace("-", ""));
      return true;
    case "resume_policy":
      if (RESUME_LEVELS[text] !== undefined) args.push("-k", String(RESUME_LEVELS[text]));
      return true;
    case "precalculate_job_size":
      args.push(isTrue(value) ? "--precalculate-job-size" : "--precalculate-disable");
      return true;
    case "http_fallback":
      args.push("-y", text === "force" ? "F" : isTrue(value) ? "1" : "0");
      return true;
    case "http_fallback_port":
    case "https_fallback_port":
      if (!args.includes("-t")) args.push("-t", text);
      return true;
    case "skip_duplicate_check":
      if (isTrue(value)) args.push("--skip-dir-traversal-dupes");
      return true;
    case "delete_source":
      if (isTrue(value))
        args.push("--remove-after-transfer", "--remove-empty-directories", "--remove-empty-source-directory");
      return true;
    case "use_system_ssh":
      if (isTrue(value)) args.push("-SSH");
      return true;
    case "ssh_args":
      for (const each of Array.isArray(value) ? value : [value]) args.push(`--ssh-arg=${String(each)}`);
      return true;
    case "proxy_password":
      env.ASPERA_PROXY_PASS = text;
      return true;
    default:
      return false;
  }
}

/** A line each; a pair list where each path has a destination. */
function buildList({ paths }: TransferSpec): AscpCall["list"] {
  const pairs = paths.length > 0 && paths.every(({ destination }) => destination !== undefined);
  const lines = pairs
    ? paths.flatMap(({ source, destination = "" }) => [source, destination])
    : paths.map(({ source }) => source);
  const broken = lines.find((line) => /[\r\n]/u.test(line) || line === "");
  if (broken !== undefined) {
    throw new RunError(
      "usage",
      `ascp can't be asked for ${JSON.stringify(broken)}: its lists have a name a line`,
      {
        hint: "ask for the folder that holds it",
      },
    );
  }
  return { option: pairs ? "--file-pair-list" : "--file-list", text: `${lines.join("\n")}\n` };
}

/**
 * Processes that share a transfer: `multi_session` means a number of them to clients, and a threshold in bytes to servers
 * of Faspex, which is what a large number must be (IBM Aspera Faspex 5 API: transfer_spec).
 */
export function sessionsOf(spec: TransferSpec): number {
  const wanted = Number(spec.multi_session ?? 0);
  return Number.isInteger(wanted) && wanted > 1 && wanted <= 128 ? wanted : 1;
}
