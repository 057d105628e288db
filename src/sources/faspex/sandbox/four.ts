/** Faspex 4: a public link is an Atom entry that holds a `faspe://` address of the transfer. */
import { randomUUID } from "node:crypto";
import type { TransferServer } from "../../../sandbox/fasp/transfer-server.ts";
import type { Reply, SandboxRequest } from "../../../sandbox/stand-ins.ts";
import type { Delivery } from "./deliveries.ts";
import { html } from "./reply.ts";
import { grantFor, TRANSFER_USER } from "./spec.ts";

/** A page for people, the entry for who accepts XML. */
export function entryReply(
  delivery: Delivery | undefined,
  request: SandboxRequest,
  transfers: TransferServer,
): Reply {
  if (delivery === undefined) return html(200, "<h1>Package not found</h1>");
  // A server that has a newer Faspex by now sends its visitors there.
  if (delivery.link === "expired") return { status: 302, headers: { Location: "/aspera/faspex/" } };
  if (!(request.headers.accept ?? "").includes("application/xml")) return html(200, "<h1>Package</h1>");
  const {
    number,
    place,
    package: { title },
  } = delivery;
  const deleted = delivery.state === "deleted";
  const token = delivery.wrapped ? null : grantFor(delivery, [place], transfers);
  return {
    status: 200,
    headers: { "Content-Type": "application/xml; charset=utf-8" },
    body: `<?xml version="1.0" encoding="UTF-8"?>
<entry xmlns="http://www.w3.org/2005/Atom">
  <id>urn:uuid:${randomUUID()}</id>
  <title>${escaped(title)}</title>
  <updated>2024-03-23T21:07:20Z</updated>
  <link rel="alternate" type="text/html" href="external_deliveries/${number}"/>
  ${deleted ? "" : `<link rel="package" href="${escaped(transferAddress(place, token, transfers.port))}"/>`}
</entry>
`,
  };
}

/** Padding of base64 values is not percent-encoded. */
function transferAddress(place: string, token: string | null, port: number): string {
  const tags = Buffer.from(JSON.stringify({ aspera: { faspex: { delivery: place } } })).toString("base64");
  const values = [
    "auth=no",
    "bwcap=10000000",
    `cookie=${encodeURIComponent(`aspera.faspex4:${randomUUID()}`)}`,
    "createpath=no",
    "enc=aes128",
    "fallback=no",
    "httpport=8080",
    "lockminrate=no",
    "lockpolicy=no",
    "minrate=0",
    "policy=fair",
    `port=${port}`,
    "protect=optional",
    `tags64=${tags}`,
    "targetrate=1000000",
    ...(token === null ? [] : [`token=${token}`]),
    "v=2",
  ];
  const path = place.split("/").map(encodeURIComponent).join("/");
  return `faspe://${TRANSFER_USER}@127.0.0.1:${port}${path}?${values.join("&")}`;
}

/** For entries without a token. The body is a list of addresses in XML. */
export async function issueToken(
  deliveries: readonly Delivery[],
  request: SandboxRequest,
  transfers: TransferServer,
): Promise<Reply> {
  let text = "";
  for await (const chunk of request.incoming as AsyncIterable<Buffer>) text += chunk.toString("utf8");
  const address = /faspe:\/\/[^/"<>]+(\/[^?"<>]*)/.exec(text)?.[1];
  const place = address === undefined ? undefined : decodeURIComponent(address);
  const delivery = deliveries.find((one) => one.place === place);
  if (delivery === undefined || request.query.get("direction") !== "down")
    return html(404, "<h1>Package not found</h1>");
  return {
    status: 200,
    headers: { "Content-Type": "text/plain" },
    body: grantFor(delivery, [delivery.place], transfers),
  };
}

const escaped = (text: string): string => text.replace(/[&<>"]/g, (mark) => `&#${mark.charCodeAt(0)};`);
