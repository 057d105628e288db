/**
 * The stand-in of an Aspera transfer server: what the stand-in ascp talks to. It knows accounts with a document root,
 * and tokens that open exactly the paths which they were given for.
 */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer, type Server, type Socket } from "node:net";
import { nodeAt, type TreeFile, type TreeFolder, type TreeNode, targetOf } from "../data/packages.ts";
import type { Fault } from "../faults.ts";
import type { Ending } from "../wire.ts";
import { type AnnounceSftp, type SshAccount, SshDoor } from "./ssh-door.ts";
import {
  type FaspRequest,
  FaspWire,
  type Hello,
  type ListEnd,
  type ListedEntry,
  type Misbehaviour,
  type Refusal,
  type Welcome,
} from "./wire.ts";

/** Where uploads end up. */
export interface Inbox {
  /** A whole file at a path below what was opened, folders on the way made. */
  store(path: string, modifiedMs: number, content: AsyncIterable<Uint8Array>): Promise<void>;
  /** The transfer is over. */
  ended?(done: boolean): void;
}

interface Grant {
  readonly user: string;
  /** The exact list. */
  readonly paths: readonly string[];
  readonly generation: number;
  readonly expiresMs: number;
}

export interface ReceiveGrant extends Grant {
  readonly direction: "receive";
  find(path: string): TreeNode | undefined;
}

export interface SendGrant extends Grant {
  readonly direction: "send";
  readonly inbox: Inbox;
}

export interface Account extends SshAccount {
  readonly inbox: () => Promise<Inbox>;
}

/** What the sandbox writes down of one session. */
export interface SessionRecord {
  status: number;
  bytesSent: number;
  ending: Ending | "open";
}

/** Tells the sandbox of a session: it is recorded, and a fault may be drawn for it. */
export type Announce = (hello: Hello) => {
  readonly record: SessionRecord;
  readonly fault: Fault | undefined;
};

export class TransferServer {
  readonly #announce: Announce;
  readonly #generation: () => number;
  readonly #grants = new Map<string, ReceiveGrant | SendGrant>();
  readonly #accounts = new Map<string, Account>();
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;

  constructor(options: {
    readonly announce: Announce;
    readonly announceSftp: AnnounceSftp;
    readonly generation: () => number;
  }) {
    this.#announce = options.announce;
    this.#generation = options.generation;
    const ssh = new SshDoor(options.announceSftp, (user) => this.#accounts.get(user));
    this.#server = createServer(async (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => undefined);
      // Real servers speak SSH to ascp, too; here its stand-in has words of its own.
      const [first] = (await once(socket, "data").catch(() => [])) as [Buffer?];
      if (first === undefined) return;
      socket.pause();
      socket.unshift(first);
      if (first.toString("latin1", 0, 4) === "SSH-") {
        await ssh.accept(socket);
        return;
      }
      const wire = new FaspWire(socket);
      // A client that goes away, or speaks something else (a port check), ends its own session only.
      void this.#serve(wire)
        .catch(() => undefined)
        .finally(() => wire.close());
    });
  }

  async listen(host: string): Promise<void> {
    this.#server.listen(0, host);
    await once(this.#server, "listening");
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** A token for exactly these paths; a day, as the real ones. */
  grantReceive(user: string, paths: readonly string[], find: ReceiveGrant["find"]): string {
    return this.#grant({ direction: "receive", user, paths, find });
  }

  grantSend(user: string, inbox: Inbox): string {
    return this.#grant({ direction: "send", user, paths: [], inbox });
  }

  #grant(
    of: Omit<ReceiveGrant, "generation" | "expiresMs"> | Omit<SendGrant, "generation" | "expiresMs">,
  ): string {
    const token = `ATM2_AC${randomBytes(48).toString("base64url")}TA`;
    this.#grants.set(token, { ...of, generation: this.#generation(), expiresMs: Date.now() + 86_400_000 });
    return token;
  }

  /** What a token opens to somebody who names these sources, user and way in aside; or why it does not. */
  openToken(token: string, sources: readonly string[]): Pick<ReceiveGrant, "find"> | Refusal {
    const grant = this.#grants.get(token);
    if (grant === undefined) return { code: 37, description: "Server aborted session: token is not valid" };
    if (grant.generation !== this.#generation() || grant.expiresMs < Date.now())
      return { code: 37, description: "Server aborted session: token expired" };
    if (grant.direction !== "receive")
      return { code: 37, description: "Server aborted session: token is not for this direction" };
    if (sources.length !== grant.paths.length || sources.some((path, at) => path !== grant.paths[at]))
      return { code: 37, description: "Server aborted session: token and path mismatch" };
    return grant;
  }

  addAccount(account: Account): void {
    this.#accounts.set(account.user, account);
  }

  /** Forget tokens and end sessions. */
  reset(): void {
    this.#grants.clear();
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, "close");
  }

  async #serve(wire: FaspWire): Promise<void> {
    const hello = (await wire.readLine()) as Hello | undefined;
    if (hello === undefined || !Array.isArray(hello.sources)) return;
    const { record, fault } = this.#announce(hello);
    record.ending = "gone";
    try {
      const misbehaviour = misbehaviourOf(fault);
      const opened = await this.#open(hello, fault);
      if ("code" in opened) {
        record.status = opened.code === 19 ? 401 : 403;
        record.ending = "complete";
        await wire.writeLine({ refused: opened, misbehaviour } satisfies Welcome);
        return;
      }
      record.status = 200;
      await wire.writeLine({ docroot: "/", sessionId: randomUUID(), misbehaviour } satisfies Welcome);
      await new Session(wire, hello, opened, fault, record).run();
    } finally {
      if (record.status === 0) record.status = 599;
    }
  }

  /** What a session may do, or why it may not. */
  async #open(hello: Hello, fault: Fault | undefined): Promise<Opened | Refusal> {
    const denied: Refusal = { code: 19, description: "failed to authenticate" };
    if (fault?.kind === "expired-token") return { code: 37, description: "token expired" };
    if (hello.token !== null) {
      // A token authorises paths; it does not open SSH.
      if (hello.key !== "rsa" && hello.password === null) return denied;
      const grant = this.#grants.get(hello.token);
      if (grant !== undefined && grant.user !== hello.user) return denied;
      if (grant?.direction === "send" && hello.direction === "send") return { inbox: grant.inbox };
      const asked = hello.sources.map((source) => `${hello.sourcePrefix}${source}`);
      return this.openToken(hello.token, asked);
    }
    const account = this.#accounts.get(hello.user);
    const letIn =
      account !== undefined &&
      ((account.password !== null && hello.password === account.password) ||
        (account.acceptsKey && hello.key === "rsa"));
    if (!letIn) return denied;
    const root = await account.root();
    return { find: (path) => nodeAt(root, path), inbox: await account.inbox() };
  }
}

interface Opened {
  readonly find?: (path: string) => TreeNode | undefined;
  readonly inbox?: Inbox;
}

const PLAYED_BY_ASCP = /^ascp-/;

function misbehaviourOf(fault: Fault | undefined): Misbehaviour | null {
  if (fault === undefined || !PLAYED_BY_ASCP.test(fault.kind)) return null;
  return {
    kind: fault.kind as Misbehaviour["kind"],
    ...(fault.code === undefined ? {} : { code: fault.code }),
    ...(fault.description === undefined ? {} : { description: fault.description }),
    ...(fault.afterBytes === undefined ? {} : { afterBytes: fault.afterBytes }),
  };
}

class Session {
  readonly #wire: FaspWire;
  readonly #hello: Hello;
  readonly #opened: Opened;
  readonly #fault: Fault | undefined;
  readonly #record: SessionRecord;
  #files: (TreeFile | null)[] = [];

  constructor(wire: FaspWire, hello: Hello, opened: Opened, fault: Fault | undefined, record: SessionRecord) {
    this.#wire = wire;
    this.#hello = hello;
    this.#opened = opened;
    this.#fault = fault;
    this.#record = record;
  }

  async run(): Promise<void> {
    for (;;) {
      const request = (await this.#wire.readLine()) as FaspRequest | undefined;
      if (request === undefined) {
        this.#opened.inbox?.ended?.(false);
        return;
      }
      switch (request.ask) {
        case "list":
          await this.#list();
          break;
        case "get":
          await this.#get(request.entry, request.from);
          break;
        case "digest":
          await this.#digest(request.entry, request.bytes);
          break;
        case "look":
          await this.#look(request.path);
          break;
        case "put":
          await this.#put(request.path, request.sizeBytes, request.modifiedMs);
          break;
        case "bye":
          this.#record.ending = "complete";
          this.#opened.inbox?.ended?.(request.done);
          return;
      }
    }
  }

  async #list(): Promise<void> {
    this.#files = [];
    const missing: number[] = [];
    let loops = 0;
    const say = async (entry: ListedEntry, file: TreeFile | null): Promise<void> => {
      this.#files.push(file);
      await this.#wire.writeLine(entry);
    };
    const visit = async (
      source: number,
      path: string,
      node: TreeFile | TreeFolder,
      above: readonly TreeFolder[],
    ): Promise<void> => {
      const facts = { source, path, modifiedMs: node.modifiedMs };
      if (node.kind === "file") {
        await say({ ...facts, type: "file", sizeBytes: node.sizeBytes }, node);
        return;
      }
      await say({ ...facts, type: "folder", sizeBytes: 0 }, null);
      for (const child of node.children.values()) {
        const to = targetOf(child);
        if (to === undefined) continue;
        if (to.kind === "folder" && (to === node || above.includes(to))) loops++;
        else await visit(source, path === "" ? child.name : `${path}/${child.name}`, to, [...above, node]);
      }
    };
    for (const [source, path] of this.#hello.sources.entries()) {
      const node = targetOf(this.#opened.find?.(`${this.#hello.sourcePrefix}${path}`));
      if (node === undefined) missing.push(source);
      else await visit(source, "", node, []);
    }
    await this.#wire.writeLine({ end: true, missing, loops } satisfies ListEnd);
  }

  async #get(entry: number, from: number): Promise<void> {
    const file = this.#files[entry];
    if (file === null || file === undefined) throw new Error("no such entry");
    const fault = this.#fault;
    const left = Math.max(0, file.sizeBytes - from);
    await this.#wire.writeLine({ bytes: left });
    const spoilt = fault?.kind === "wrong-bytes" || fault?.kind === "flip";
    const middle = file.sizeBytes >> 1;
    let at = from;
    const started = performance.now();
    for await (const whole of file.read(from)) {
      for (let begin = 0; begin < whole.length; begin += 64 * 1024) {
        let chunk = whole.subarray(begin, begin + 64 * 1024);
        if (spoilt && middle >= at && middle < at + chunk.length) {
          chunk = Uint8Array.from(chunk);
          chunk[middle - at]! ^= 1;
        }
        if (
          fault?.kind === "cut" &&
          this.#record.bytesSent + chunk.length > (fault.afterBytes ?? left >> 1)
        ) {
          this.#record.ending = "cut";
          this.#wire.close();
          return;
        }
        await this.#wire.writeBytes(chunk);
        at += chunk.length;
        this.#record.bytesSent += chunk.length;
        if (fault?.kind === "slow") {
          const dueMs = ((at - from) / (fault.bytesPerSecond ?? 65_536)) * 1000;
          await pause(dueMs - (performance.now() - started));
        }
      }
    }
  }

  async #digest(entry: number, bytes: number): Promise<void> {
    const file = this.#files[entry];
    const hash = createHash("md5");
    let left = bytes;
    if (file) {
      for await (const chunk of file.read()) {
        hash.update(chunk.subarray(0, left));
        left -= Math.min(left, chunk.length);
        if (left === 0) break;
      }
    }
    await this.#wire.writeLine({ md5: hash.digest("hex") });
  }

  async #look(path: string): Promise<void> {
    const node = targetOf(this.#opened.find?.(path));
    await this.#wire.writeLine({
      kind: node?.kind ?? "nothing",
      sizeBytes: node?.kind === "file" ? node.sizeBytes : 0,
    });
  }

  async #put(path: string, sizeBytes: number, modifiedMs: number): Promise<void> {
    const { inbox } = this.#opened;
    if (inbox === undefined) throw new Error("this session may not send");
    const record = this.#record;
    const bytes = this.#wire.readBytes(sizeBytes);
    await inbox.store(
      path,
      modifiedMs,
      (async function* () {
        for await (const chunk of bytes) {
          record.bytesSent += chunk.length;
          yield chunk;
        }
      })(),
    );
    await this.#wire.writeLine({ stored: true });
  }
}

const pause = (ms: number): Promise<void> =>
  ms <= 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, ms));
