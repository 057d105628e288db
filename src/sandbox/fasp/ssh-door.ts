/**
 * The SSH side of the stand-in transfer server, as OpenSSH behind an Aspera server has it: passwords and keys, and for
 * accounts that may have it SFTP over their folder, for reading. Facts: draft-ietf-secsh-filexfer-02.
 */
import { createECDH, createHash, createPrivateKey } from "node:crypto";
import type { Socket } from "node:net";
import type { Connection, Server, SFTPWrapper, Session as SshSession } from "ssh2";
import { nodeAt, type TreeFile, type TreeFolder, type TreeNode, targetOf } from "../data/packages.ts";
import type { Fault } from "../faults.ts";
import type { SessionRecord } from "./transfer-server.ts";

export interface SshAccount {
  readonly user: string;
  /** Null: by key only. */
  readonly password: string | null;
  readonly acceptsKey: boolean;
  /** True: SFTP shows the folder; else a login opens nothing, as the shell of Aspera servers has it (aspshell). */
  readonly sftp: boolean;
  readonly root: () => Promise<TreeFolder>;
}

/** Tells the sandbox of a file that is opened or a folder that is listed: it is recorded, and a fault may be drawn. */
export type AnnounceSftp = (asked: { user: string; path: string; serves: "sftp-file" | "sftp-folder" }) => {
  readonly record: SessionRecord;
  readonly fault: Fault | undefined;
};

const STATUS = { ok: 0, end: 1, noSuchFile: 2, denied: 3, failure: 4 } as const;
const FOLDER = 0o040755;
const FILE = 0o100644;
const LINK = 0o120777;
/** Names of one portion of a listing. */
const PORTION = 100;

export class SshDoor {
  readonly #announce: AnnounceSftp;
  readonly #accountOf: (user: string) => SshAccount | undefined;
  #server: Promise<Server> | undefined;

  constructor(announce: AnnounceSftp, accountOf: (user: string) => SshAccount | undefined) {
    this.#announce = announce;
    this.#accountOf = accountOf;
  }

  /** A connection whose client has shown that it speaks SSH; what it has said is still to be read. */
  async accept(socket: Socket): Promise<void> {
    this.#server ??= import("ssh2").then(({ default: ssh2 }) => {
      const server = new ssh2.Server({ hostKeys: [hostKey()] });
      server.on("error", () => undefined);
      return server;
    });
    const server = await this.#server;
    server.once("connection", (client) => this.#serve(client, socket));
    server.injectSocket(socket);
  }

  #serve(client: Connection, socket: Socket): void {
    let account: SshAccount | undefined;
    client.on("error", () => undefined);
    client.on("authentication", (context) => {
      account = this.#accountOf(context.username);
      const right =
        account !== undefined &&
        ((context.method === "password" && account.password === context.password) ||
          (context.method === "publickey" && account.acceptsKey && context.key.algo.includes("rsa")));
      if (right) context.accept();
      else context.reject(["password", "publickey"]);
    });
    client.on("session", (accept) => {
      const session = accept() as SshSession;
      session.on("sftp", (acceptSftp, reject) => {
        if (!account?.sftp) return reject?.();
        const { user, root } = account;
        new SftpFolder({
          channel: acceptSftp(),
          root: root(),
          announce: (path, serves) => this.#announce({ user, path, serves }),
          // What was sent still arrives: a socket that is destroyed with unread requests in it takes that away again.
          cut: () => socket.end(),
        });
      });
    });
  }
}

/** The same in every sandbox, so that who has met one knows them all. */
function hostKey(): string {
  const curve = createECDH("prime256v1");
  curve.setPrivateKey(createHash("sha256").update("host key of gantry's sandbox").digest());
  const point = curve.getPublicKey();
  const text = (bytes: Buffer): string => bytes.toString("base64url");
  const [x, y, d] = [point.subarray(1, 33), point.subarray(33), curve.getPrivateKey()].map(text);
  const key = createPrivateKey({ key: { kty: "EC", crv: "P-256", x, y, d }, format: "jwk" } as never);
  return key.export({ type: "sec1", format: "pem" }) as string;
}

type Handle =
  | { readonly kind: "file"; readonly file: OpenFile }
  | { readonly kind: "folder"; readonly rest: TreeNode[]; readonly fault: Fault | undefined };

interface SftpParts {
  readonly channel: SFTPWrapper;
  readonly root: Promise<TreeFolder>;
  readonly announce: (path: string, serves: "sftp-file" | "sftp-folder") => ReturnType<AnnounceSftp>;
  readonly cut: () => void;
}

class SftpFolder {
  readonly #channel: SFTPWrapper;
  readonly #root: Promise<TreeFolder>;
  readonly #announce: SftpParts["announce"];
  readonly #cutAll: () => void;
  readonly #handles = new Map<number, Handle>();
  #count = 0;

  constructor({ channel, root, announce, cut }: SftpParts) {
    this.#channel = channel;
    this.#root = root;
    this.#announce = announce;
    this.#cutAll = cut;
    const stat = (request: number, path: string): void =>
      void this.#answer(request, async () => {
        const node = targetOf(nodeAt(await root, path));
        if (!node) return STATUS.noSuchFile;
        channel.attrs(request, attributesOf(node) as never);
        return null;
      });
    channel.on("STAT", stat);
    channel.on("LSTAT", stat);
    channel.on(
      "REALPATH",
      (request, path) =>
        void this.#answer(request, async () => {
          const real = realPath(await root, path);
          if (real === null) return STATUS.noSuchFile;
          channel.name(request, [{ filename: real, longname: real, attrs: {} as never }]);
          return null;
        }),
    );
    channel.on(
      "OPENDIR",
      (request, path) => void this.#answer(request, () => this.#openFolder(request, path)),
    );
    channel.on(
      "READDIR",
      (request, handle) => void this.#answer(request, () => this.#readFolder(request, handle)),
    );
    channel.on(
      "OPEN",
      (request, path, flags) => void this.#answer(request, () => this.#openFile(request, path, flags)),
    );
    channel.on(
      "FSTAT",
      (request, handle) =>
        void this.#answer(request, async () => {
          const open = this.#handleOf(handle);
          if (open?.kind !== "file") return STATUS.failure;
          channel.attrs(request, open.file.attributes() as never);
          return null;
        }),
    );
    channel.on(
      "READ",
      (request, handle, offset, length) =>
        void this.#answer(request, () => this.#read(request, handle, offset, length)),
    );
    channel.on(
      "CLOSE",
      (request, handle) =>
        void this.#answer(request, async () => {
          const open = this.#handleOf(handle);
          if (open?.kind === "file") open.file.end("complete");
          this.#handles.delete(handle.readUInt32BE(0));
          return STATUS.ok;
        }),
    );
    channel.on("close", () => {
      for (const open of this.#handles.values()) if (open.kind === "file") open.file.end("gone");
      this.#handles.clear();
    });
  }

  async #answer(request: number, work: () => Promise<number | null>): Promise<void> {
    try {
      const status = await work();
      if (status !== null) this.#channel.status(request, status as never);
    } catch {
      this.#channel.status(request, STATUS.failure as never);
    }
  }

  #newHandle(request: number, handle: Handle): null {
    const number = ++this.#count;
    this.#handles.set(number, handle);
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(number);
    this.#channel.handle(request, bytes);
    return null;
  }

  #handleOf(bytes: Buffer): Handle | undefined {
    return bytes.length === 4 ? this.#handles.get(bytes.readUInt32BE(0)) : undefined;
  }

  #cut(): null {
    this.#cutAll();
    return null;
  }

  async #openFolder(request: number, path: string): Promise<number | null> {
    const folder = targetOf(nodeAt(await this.#root, path));
    if (folder?.kind !== "folder") return STATUS.noSuchFile;
    const { record, fault } = this.#announce(path, "sftp-folder");
    record.status = 200;
    record.ending = "complete";
    if (fault?.kind === "500") return STATUS.failure;
    if (fault?.kind === "stall") return null;
    return this.#newHandle(request, { kind: "folder", rest: [...folder.children.values()], fault });
  }

  async #readFolder(request: number, handle: Buffer): Promise<number | null> {
    const open = this.#handleOf(handle);
    if (open?.kind !== "folder") return STATUS.failure;
    if (open.fault?.kind === "cut" || open.fault?.kind === "reset") return this.#cut();
    if (open.rest.length === 0) return STATUS.end;
    const names = open.rest.splice(0, PORTION).map((node) => ({
      filename: node.name,
      longname: node.name,
      attrs: attributesOf(node) as never,
    }));
    this.#channel.name(request, names);
    return null;
  }

  async #openFile(request: number, path: string, flags: number): Promise<number | null> {
    const file = targetOf(nodeAt(await this.#root, path));
    if (flags !== 1) return STATUS.denied;
    if (file?.kind !== "file") return STATUS.noSuchFile;
    const { record, fault } = this.#announce(path, "sftp-file");
    record.status = 200;
    if (fault?.kind === "missing") {
      record.ending = "complete";
      return STATUS.noSuchFile;
    }
    if (fault?.kind === "500") {
      record.ending = "complete";
      return STATUS.failure;
    }
    return this.#newHandle(request, { kind: "file", file: new OpenFile(file, record, fault) });
  }

  async #read(request: number, handle: Buffer, offset: number, length: number): Promise<number | null> {
    const open = this.#handleOf(handle);
    if (open?.kind !== "file") return STATUS.failure;
    const what = await open.file.read(offset, length);
    if (what === "cut") return this.#cut();
    if (what === "silence") return null;
    if (what.length === 0) return STATUS.end;
    this.#channel.data(request, what);
    return null;
  }
}

/** A file that is read at places one after the other, mostly. */
class OpenFile {
  readonly #file: TreeFile;
  readonly #record: SessionRecord;
  readonly #fault: Fault | undefined;
  readonly #endsAt: number;
  #bytes: AsyncIterator<Uint8Array> | null = null;
  #at = 0;
  #rest: Uint8Array = new Uint8Array();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(file: TreeFile, record: SessionRecord, fault: Fault | undefined) {
    this.#file = file;
    this.#record = record;
    this.#fault = fault;
    const share = Math.floor(file.sizeBytes * (fault?.fraction ?? 0.5));
    const faulty = fault !== undefined && ["cut", "stall", "short-body", "reset"].includes(fault.kind);
    this.#endsAt = !faulty ? file.sizeBytes : fault.kind === "reset" ? 0 : (fault.afterBytes ?? share);
  }

  attributes(): object {
    const facts = attributesOf(this.#file);
    const changed = this.#fault?.kind === "changes" && this.#at > 0;
    return changed ? { ...facts, mtime: facts.mtime + 1 } : facts;
  }

  end(ending: SessionRecord["ending"]): void {
    if (this.#record.ending === "open") this.#record.ending = ending;
  }

  read(offset: number, length: number): Promise<Buffer | "cut" | "silence"> {
    const read = this.#turn.then(() => this.#read(offset, length));
    this.#turn = read.catch(() => undefined);
    return read;
  }

  async #read(offset: number, length: number): Promise<Buffer | "cut" | "silence"> {
    const kind = this.#fault?.kind;
    if (offset + length > this.#endsAt && offset < this.#file.sizeBytes) {
      if (kind === "cut" || kind === "reset") {
        this.end("cut");
        return "cut";
      }
      if (kind === "stall") {
        this.end("stalled");
        return "silence";
      }
    }
    const end = Math.min(offset + length, this.#endsAt);
    if (offset !== this.#at || this.#bytes === null) {
      this.#bytes = this.#file.read(offset)[Symbol.asyncIterator]();
      this.#at = offset;
      this.#rest = new Uint8Array();
    }
    const parts: Uint8Array[] = [];
    while (this.#at < end) {
      if (this.#rest.length === 0) {
        const next = await this.#bytes.next();
        if (next.done) break;
        this.#rest = next.value;
      }
      const part = this.#rest.subarray(0, end - this.#at);
      this.#rest = this.#rest.subarray(part.length);
      this.#at += part.length;
      parts.push(part);
    }
    const bytes = Buffer.concat(parts);
    this.#record.bytesSent += bytes.length;
    return bytes;
  }
}

function attributesOf(node: TreeNode): {
  mode: number;
  size: number;
  mtime: number;
  atime: number;
  uid: number;
  gid: number;
} {
  const mode = node.kind === "folder" ? FOLDER : node.kind === "file" ? FILE : LINK;
  const mtime = Math.floor(node.modifiedMs / 1000);
  return { mode, size: node.kind === "file" ? node.sizeBytes : 0, mtime, atime: mtime, uid: 0, gid: 0 };
}

/** The path to the same place without links; null when nothing is there. */
function realPath(root: TreeFolder, path: string): string | null {
  const found = targetOf(nodeAt(root, path));
  if (!found) return null;
  const search = (folder: TreeFolder, above: string): string | null => {
    if (folder === found) return above === "" ? "/" : above;
    for (const child of folder.children.values()) {
      if (child === found) return `${above}/${child.name}`;
      const below = child.kind === "folder" ? search(child, `${above}/${child.name}`) : null;
      if (below !== null) return below;
    }
    return null;
  };
  return search(root, "") ?? path;
}
