/** The stand-in answers in the shape of the recorded fixtures. */
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { expect, it } from "vitest";
import { tinyDataset } from "../../sandbox/tiny-dataset.ts";
import { tinyWorld } from "../../sandbox/tiny-world.ts";
import { collect } from "../../sandbox/wire.ts";
import { openTemplateStandIn } from "./sandbox.ts";

const world = tinyWorld(tinyDataset());

async function ask(path: string, query = ""): Promise<{ status: number; rows: Record<string, unknown>[] }> {
  const standIn = await openTemplateStandIn(world);
  const request = {
    method: "GET",
    path,
    query: new URLSearchParams(query),
    headers: {},
    form: new URLSearchParams(),
    incoming: {} as IncomingMessage,
  };
  const reply = await standIn.route(request)?.answer(request, undefined);
  if (!reply) throw new Error(`no route for ${path}`);
  const text = Buffer.from(await collect(reply.body)).toString("utf8");
  return { status: reply.status, rows: reply.status === 200 && text.startsWith("[") ? JSON.parse(text) : [] };
}

const fixture = (name: string): Record<string, unknown>[] =>
  JSON.parse(readFileSync(new URL(`fixtures/${name}.json`, import.meta.url), "utf8"));
const shape = (row: Record<string, unknown> = {}) =>
  Object.entries(row).map(([key, value]) => [key, typeof value]);

it.each(["collections", "files"])("%s have the recorded shape", async (what) => {
  const { rows } = await ask(`/shelf/${what}`);
  expect(shape(rows[0])).toEqual(shape(fixture(what)[0]));
});

it("narrows by every part of the question, and hides what is restricted", async () => {
  expect((await ask("/shelf/files", "patient=P2")).rows).toHaveLength(5);
  expect((await ask("/shelf/files", "collection=LUNG%20CT&id=1.2.3.1.2")).rows).toHaveLength(1);
  expect((await ask("/shelf/files", "collection=SECRET")).rows).toEqual([]);
  expect((await ask("/shelf/files/9.9")).status).toBe(404);
});
