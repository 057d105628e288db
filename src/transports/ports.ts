/** Whether ports of a server can be reached, for diagnoses. */
import { createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { connect } from "node:net";
import type { Context } from "../lib/context.ts";
import { networkError } from "./http.ts";

const CONNECT_MS = 10_000;
const SILENCE_MS = 2_000;

/** The addresses of a name. Throws `archive-unreachable`. */
export async function findName(host: string, context: Context): Promise<string[]> {
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch (error) {
    throw networkError(error, urlOf(host), context);
  }
}

const urlOf = (host: string, port = 22): URL =>
  new URL(`http://${host.includes(":") ? `[${host}]` : host}:${port}`);

/** Connects and hangs up. Throws `archive-unreachable`. */
export async function reachTcp(host: string, port: number, context: Context): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      const socket = connect({ host, port });
      const end = (error?: Error): void => {
        socket.destroy();
        if (error) reject(error);
        else resolve();
      };
      socket.setTimeout(CONNECT_MS, () => end(Object.assign(new Error("timed out"), { code: "ETIMEDOUT" })));
      socket.once("connect", () => end());
      socket.once("error", end);
    });
  } catch (error) {
    throw networkError(error, urlOf(host, port), context);
  }
}

/**
 * Sends a datagram that means nothing. `refused`: somebody on the way said that it does not get through; `silent`: nobody
 * said anything, as open and as blocked ports do.
 */
export function askUdp(host: string, port: number): Promise<"refused" | "silent"> {
  return new Promise((resolve) => {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    const end = (answer: "refused" | "silent"): void => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => end("silent"), SILENCE_MS);
    socket.once("error", () => end("refused"));
    socket.once("message", () => end("silent"));
    // A second one: what came back for the first is told by it.
    socket.connect(port, host, () => socket.send("", () => socket.send("", () => undefined)));
  });
}
