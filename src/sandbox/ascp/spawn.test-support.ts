/** The stand-in `ascp` as a client starts it, with the management channel that a client holds. For tests. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";

export type Frame = Readonly<Record<string, string>>;

export interface AscpRun {
  readonly child: ChildProcess;
  readonly frames: Frame[];
  /** Resolves when the management channel has been opened. */
  readonly channel: Promise<Socket>;
  command(type: string, fields?: Readonly<Record<string, string | number>>): Promise<void>;
  readonly ended: Promise<{
    readonly status: number | null;
    readonly signal: NodeJS.Signals | null;
    readonly stdout: string;
    readonly stderr: string;
  }>;
}

export async function startAscp(
  ascp: string,
  args: readonly string[],
  options: {
    readonly env?: Readonly<Record<string, string>>;
    readonly cwd?: string;
    /** `open`: standard input stays open, as a terminal's does. */
    readonly stdin?: "closed" | "open";
    readonly onPiece?: (bytes: number) => void;
  } = {},
): Promise<AscpRun> {
  const frames: Frame[] = [];
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const channel = new Promise<Socket>((resolve) => {
    server.on("connection", (socket) => {
      let text = "";
      socket.on("error", () => undefined);
      socket.on("data", (part) => {
        options.onPiece?.(part.length);
        text += part.toString("utf8");
        for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
          const [head, ...lines] = text.slice(0, end).split("\n");
          text = text.slice(end + 2);
          if (head !== "FASPMGR 2") throw new Error(`no frame: ${head}`);
          frames.push(
            Object.fromEntries(
              lines.map((line) => [line.split(": ")[0]!, line.split(": ").slice(1).join(": ")]),
            ),
          );
        }
      });
      resolve(socket);
    });
  });
  const { port } = server.address() as AddressInfo;
  const child = spawn(ascp, ["-M", String(port), ...args], {
    env: { PATH: process.env.PATH ?? "", ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdio: [options.stdin === "open" ? "pipe" : "ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (part) => {
    stdout += String(part);
  });
  child.stderr?.on("data", (part) => {
    stderr += String(part);
  });
  const ended = once(child, "close").then(([status, signal]) => {
    server.close();
    return { status, signal, stdout, stderr };
  });
  return {
    child,
    frames,
    channel,
    async command(type, fields = {}) {
      const lines = Object.entries({ Type: type, ...fields }).map(([key, value]) => `${key}: ${value}\n`);
      (await channel).write(`FASPMGR 2\n${lines.join("")}\n`);
    },
    ended,
  };
}
