/** An SFTP server that answers a question only when a test lets it: so a test sees what is in flight together. */
import { generateKeyPairSync } from "node:crypto";
import type { AddressInfo } from "node:net";
import ssh2, { type Connection, type SFTPWrapper } from "ssh2";

export interface Asked {
  readonly kind: "OPEN" | "FSTAT" | "READ" | "CLOSE";
  readonly path: string;
  readonly offset: number;
  readonly length: number;
  answered: boolean;
}

export interface HoldingServer {
  readonly port: number;
  readonly files: Map<string, { bytes: Buffer; mtimeSeconds: number }>;
  /** All questions, in the order in which they came. */
  readonly asked: Asked[];
  /** Whether a question may be answered now; asked again with each further one. Default: yes. */
  mayAnswer: (one: Asked) => boolean;
  /** What is read at a place; default: the file's bytes. */
  contentAt: (path: string, offset: number, length: number) => Buffer;
  /** Asks `mayAnswer` again. */
  look(): void;
  close(): Promise<void>;
}

export async function startHoldingServer(): Promise<HoldingServer> {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const key = privateKey.export({ type: "pkcs1", format: "pem" });
  const held: { one: Asked; answer: () => void }[] = [];
  const handles: string[] = [];
  const clients = new Set<Connection>();
  const serve = (channel: SFTPWrapper): void => {
    const attributes = (path: string) => {
      const file = server.files.get(path);
      if (!file) return null;
      const { bytes, mtimeSeconds } = file;
      return { mode: 0o100644, uid: 0, gid: 0, size: bytes.length, atime: mtimeSeconds, mtime: mtimeSeconds };
    };
    const take = (kind: Asked["kind"], path: string, answer: () => void, [offset, length] = [0, 0]): void => {
      const one: Asked = { kind, path, offset, length, answered: false };
      server.asked.push(one);
      held.push({ one, answer });
      server.look();
    };
    const pathOf = (handle: Buffer): string => handles[handle.readUInt32BE(0)] as string;
    const facts = (request: number, path: string): void => {
      const found = attributes(path);
      if (found) channel.attrs(request, found);
      else channel.status(request, 2);
    };
    channel.on("STAT", facts);
    channel.on("OPEN", (request, path) =>
      take("OPEN", path, () => {
        const handle = Buffer.alloc(4);
        handle.writeUInt32BE(handles.push(path) - 1);
        channel.handle(request, handle);
      }),
    );
    channel.on("FSTAT", (request, handle) =>
      take("FSTAT", pathOf(handle), () => facts(request, pathOf(handle))),
    );
    channel.on("READ", (request, handle, offset, length) => {
      const path = pathOf(handle);
      const answer = (): void => {
        const bytes = server.contentAt(path, offset, length);
        if (bytes.length > 0) channel.data(request, bytes);
        else channel.status(request, 1);
      };
      take("READ", path, answer, [offset, length]);
    });
    channel.on("CLOSE", (request, handle) => take("CLOSE", pathOf(handle), () => channel.status(request, 0)));
  };
  const listener = new ssh2.Server({ hostKeys: [key] }, (client) => {
    clients.add(client);
    // Else the end of an answer leaves only when the client has acknowledged what came before, which it puts off for 40 ms.
    (client as Connection & { setNoDelay(noDelay: boolean): void }).setNoDelay(true);
    client.on("error", () => undefined).on("close", () => clients.delete(client));
    client.on("authentication", (context) => context.accept());
    client.on("session", (accept) => accept().on("sftp", (acceptSftp) => serve(acceptSftp())));
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const server: HoldingServer = {
    port: (listener.address() as AddressInfo).port,
    files: new Map(),
    asked: [],
    mayAnswer: () => true,
    contentAt: (path, offset, length) =>
      (server.files.get(path)?.bytes ?? Buffer.alloc(0)).subarray(offset, offset + length),
    look: () => {
      for (const each of [...held]) {
        if (each.one.answered || !server.mayAnswer(each.one)) continue;
        each.one.answered = true;
        held.splice(held.indexOf(each), 1);
        each.answer();
      }
    },
    close: async () => {
      for (const client of clients) client.end();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
  return server;
}
