/** Wire values of Faspex 5 and its node as plain data. Pure. */

export type Wire = Readonly<Record<string, unknown>>;

export const isRecord = (value: unknown): value is Wire =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Text, or a number as text; null for all else. */
export function textOf(value: unknown): string | null {
  if (typeof value === "string") return value;
  return typeof value === "number" ? String(value) : null;
}

/** A size: a number, or digits as text (aspera-cli: both are seen). Null for all else. */
export function sizeOf(value: unknown): number | null {
  const number = typeof value === "string" && /^\d+$/u.test(value) ? Number(value) : value;
  return typeof number === "number" && Number.isSafeInteger(number) && number >= 0 ? number : null;
}

/** A package as `GET /packages/{id}` shows it. */
export interface PackageFacts {
  readonly id: string;
  readonly title: string | null;
  readonly state: string;
  readonly uploadStatus: string;
  readonly totalBytes: number | null;
  readonly totalFiles: number | null;
  readonly filesOnServer: string;
  readonly expires: string | null;
  readonly encrypted: boolean;
  readonly httpForbidden: boolean;
  /** Its files can be listed, and fetched one by one; else it comes whole. */
  readonly listed: boolean;
  /** When it was sent, ISO 8601; null where that is not told, or files tell their own time. */
  readonly sent: string | null;
  /** Which way of paging its listings have; null: it does not say. */
  readonly paged: boolean | null;
  /** What newer servers want to be told with each question about the package's files. */
  readonly recipient: Readonly<Record<string, string>>;
}

export function parsePackage(json: unknown, id: string): PackageFacts | null {
  if (!isRecord(json)) return null;
  const word = (key: string): string => (textOf(json[key]) ?? "").toLowerCase();
  return {
    id: textOf(json.id) ?? id,
    title: textOf(json.title),
    state: word("state"),
    uploadStatus: word("upload_status"),
    totalBytes: sizeOf(json.total_bytes),
    totalFiles: sizeOf(json.total_files),
    filesOnServer: word("files_on_server"),
    expires: textOf(json.expiration_date),
    encrypted: json.ear_enabled === true,
    httpForbidden: json.prevent_http_download === true,
    listed: true,
    sent: null,
    paged: typeof json.pagination_browsing === "boolean" ? json.pagination_browsing : null,
    recipient: recipientOf(json.recipients),
  };
}

function recipientOf(recipients: unknown): Record<string, string> {
  const first: unknown = Array.isArray(recipients) ? recipients[0] : null;
  if (!isRecord(first)) return {};
  const id = textOf(first.id);
  if (id === null) return {};
  switch (first.recipient_type) {
    case "user":
      return { recipient_user_id: id };
    case "workgroup":
    case "shared_inbox":
      return { recipient_workgroup_id: id };
    default:
      return {};
  }
}

/** One entry of a folder of a package. */
export interface PackageEntry {
  /** Path inside the package, without a slash before it, as segments. */
  readonly path: readonly string[];
  readonly type: "file" | "folder" | "unknown";
  /** Null where the server does not say. */
  readonly bytes: number | null;
  /** ISO 8601, as the server writes it; null where it does not say. */
  readonly mtime: string | null;
  /** A symbolic link on the server; `type`, `bytes` and `mtime` are of what it leads to, as far as that is told. */
  readonly isLink: boolean;
}

/** `folder`: the path that was browsed. Null for what is no entry of it. */
export function parseEntry(json: unknown, folder: readonly string[]): PackageEntry | null {
  if (!isRecord(json)) return null;
  const name = textOf(json.basename) ?? textOf(json.path)?.split("/").at(-1) ?? "";
  if (name === "" || name === "." || name === ".." || name.includes("/")) return null;
  const path = [...folder, name];
  if (json.type !== "symbolic_link") {
    const type = json.type === "directory" ? "folder" : "file";
    const bytes = type === "file" ? sizeOf(json.size) : null;
    return { path, type, bytes, mtime: textOf(json.mtime), isLink: false };
  }
  const target = isRecord(json.target) ? json.target : {};
  const type = target.type === "directory" ? "folder" : target.type === "file" ? "file" : "unknown";
  return {
    path,
    type,
    // A link's own size is the length of its target's name.
    bytes: type === "folder" ? null : sizeOf(target.size),
    mtime: textOf(target.mtime) ?? textOf(json.mtime),
    isLink: true,
  };
}
