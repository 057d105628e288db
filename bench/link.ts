/** A network of a given speed: a door on loopback through which all answers together come no faster than that. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { productModule } from "./product.ts";

/** Resolves to the URL as it is behind the door. The door is open as long as the process lives. */
export async function openLink(behind: URL, bytesPerSecond: number): Promise<URL> {
  const { createRateLimiter } = await productModule<typeof import("../src/lib/limiter.ts")>("lib/limiter.js");
  const limiter = createRateLimiter(bytesPerSecond);
  const answer = async (client: Socket, server: Socket): Promise<void> => {
    for await (const chunk of server as AsyncIterable<Buffer>) {
      await limiter.take(chunk.length);
      if (!client.write(chunk)) await once(client, "drain");
    }
    client.end();
  };
  const door = createServer((client) => {
    const server = connect(Number(behind.port), behind.hostname);
    client.pipe(server);
    client.on("error", () => server.destroy()).on("close", () => server.destroy());
    server.on("error", () => client.destroy());
    answer(client, server).catch(() => client.destroy());
  });
  await once(door.listen(0, "127.0.0.1"), "listening");
  const url = new URL(behind);
  url.port = String((door.address() as AddressInfo).port);
  return url;
}
