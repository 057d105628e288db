/** Packages that are sent through a public upload link: created, uploaded by ascp, and complete a little later. */
import { randomUUID } from "node:crypto";
import { folderOf } from "../../../sandbox/data/packages.ts";
import { UploadStore } from "../../../sandbox/fasp/inbox.ts";
import type { Reply, SandboxRequest, World } from "../../../sandbox/stand-ins.ts";
import { type Delivery, delivery } from "./deliveries.ts";
import { json, parsed, refuse } from "./reply.ts";
import { uploadSpec } from "./spec.ts";
import type { Bearer } from "./tokens.ts";

type UploadStatus = "pre_initiation" | "submitted" | "transferring" | "completed" | "failed";

interface Upload {
  readonly delivery: Delivery;
  readonly by: string;
  readonly encrypted: boolean;
  /** The spec repeats the paths as plain text; aspera-cli 4.25 can't take that. */
  readonly echoesPaths: boolean;
  status: UploadStatus;
  /** How often the status was asked for since ascp ended: the server takes a moment to see it. */
  looks: number;
  ended: boolean;
  bytesWritten: number;
}

/** The upload links of the sandbox, and whom each sends to. */
export const UPLOAD_LINKS = [
  { name: "upload", type: "external_upload_to_user", to: "curator@archive.example", recipientType: "user" },
  {
    name: "upload-inbox",
    type: "external_upload_to_shared_inbox",
    to: "Submissions",
    recipientType: "shared_inbox",
  },
] as const;

export class Uploads {
  readonly #world: World;
  readonly #store = new UploadStore();
  #all: Upload[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  /** What was sent, to be received again. */
  get deliveries(): readonly Delivery[] {
    return this.#all.map((upload) => upload.delivery);
  }

  reset(): void {
    this.#all = [];
    this.#store.close();
  }

  answer(bearer: Extract<Bearer, { kind: "upload" }>, path: string, request: SandboxRequest): Reply {
    const { method } = request;
    if (path === "/packages" && method === "POST") return this.#create(bearer, request);
    const [, number, rest] = /^\/packages\/([^/]+)(\/.*)?$/.exec(path) ?? [];
    const upload = this.#all.find((one) => one.delivery.number === number && one.by === bearer.name);
    if (number === undefined) return refuse(404, 1002, "There is no such route");
    if (upload === undefined) return refuse(404, 1224, "The package was not found");
    if (rest === undefined && method === "GET")
      return json(200, {
        id: number,
        title: upload.delivery.package.title,
        state: "released",
        status: upload.status,
        upload_status: upload.status,
        ear_enabled: upload.encrypted,
        recipients: [{ name: bearer.name, recipient_type: bearer.recipientType }],
      });
    if (rest === "/transfer_spec/upload" && method === "POST") return this.#spec(upload, request);
    if (rest === "/upload_details" && method === "GET") return details(upload);
    return refuse(404, 1002, "There is no such route");
  }

  #create(bearer: Extract<Bearer, { kind: "upload" }>, request: SandboxRequest): Reply {
    const { title, recipients, ear_enabled: encrypted } = parsed(request.text);
    if (typeof title !== "string" || title === "") return refuse(400, 1003, "The parameter title is missing");
    const allowed =
      Array.isArray(recipients) &&
      recipients.length > 0 &&
      recipients.every(
        (one: unknown) =>
          typeof one === "object" &&
          one !== null &&
          "name" in one &&
          one.name === bearer.name &&
          "recipient_type" in one &&
          one.recipient_type === bearer.recipientType,
      );
    if (!allowed) return refuse(403, 3804, "The link does not send to these recipients");
    const number = String(901 + this.#all.length);
    const root = folderOf(`PKG - ${title}`, Date.UTC(2024, 5, 1));
    const upload: Upload = {
      delivery: delivery(`uploaded-${number}`, number, { title, root }, {}, this.#world.seed),
      by: bearer.name,
      encrypted: encrypted === true,
      echoesPaths: bearer.recipientType === "shared_inbox",
      status: "pre_initiation",
      looks: 0,
      ended: false,
      bytesWritten: 0,
    };
    this.#all.push(upload);
    return json(201, { id: number, title, package_uuid: randomUUID(), status: "pre_initiation" });
  }

  #spec(upload: Upload, request: SandboxRequest): Reply {
    if (request.query.get("transfer_type") !== "connect")
      return refuse(400, 1225, "The parameter transfer_type is not valid");
    const {
      number,
      place,
      package: { root },
    } = upload.delivery;
    upload.status = "submitted";
    const stored = this.#store.inboxOf(root);
    return uploadSpec({
      number,
      destination: place,
      encrypted: upload.encrypted,
      paths: upload.echoesPaths ? parsed(request.text).paths : undefined,
      transfers: this.#world.transfers,
      inbox: {
        store: async (path, modifiedMs, content) => {
          upload.status = "transferring";
          const below = path.startsWith(`${place}/`) ? path.slice(place.length) : path;
          await stored.store(
            below,
            modifiedMs,
            (async function* () {
              for await (const chunk of content) {
                upload.bytesWritten += chunk.length;
                yield chunk;
              }
            })(),
          );
        },
        ended: (done) => {
          upload.ended = done;
          if (!done) upload.status = "failed";
        },
      },
    });
  }
}

/** Complete at the second look after ascp's end. Numbers are text on the wire. */
function details(upload: Upload): Reply {
  if (upload.ended && ++upload.looks > 1) upload.status = "completed";
  const { status, bytesWritten } = upload;
  return json(200, {
    upload_status: status,
    bytes_total: String(bytesWritten),
    bytes_written: String(bytesWritten),
    percentage_complete: status === "completed" ? "100" : "50",
    time_remaining: status === "completed" ? "0" : "1",
    average_rate: "100000",
  });
}
