/**
 * The stand-in of plain ascp sites on the sandbox's transfer server: `demo`, with a password, as ImmPort gives accounts,
 * `demo-key`, with a key only, as ENA's `era-fasp`, and `demo-sftp`, whose account may use SFTP, too. All see the packages'
 * files, by title, and below `encrypted/` the first package encrypted at rest; what is uploaded is there, too.
 */

import { SDK_FORMS, sdkIndex, sdkTarGz, sdkZip } from "../../sandbox/ascp/sdk.ts";
import { folderOf, type TreeFolder } from "../../sandbox/data/packages.ts";
import { AT_REST_PASSPHRASE, encryptedTree } from "../../sandbox/fasp/encrypted-tree.ts";
import { UploadStore } from "../../sandbox/fasp/inbox.ts";
import type { Route, SandboxRequest, StandIn, World } from "../../sandbox/stand-ins.ts";

const KEY_USER = "demo-key";
const SFTP_USER = "demo-sftp";
const SDK = "/aspera-sdk";

export async function openAsperaStandIn(world: World): Promise<StandIn> {
  return new AsperaStandIn(world);
}

class AsperaStandIn implements StandIn {
  readonly kind = "aspera";
  readonly #world: World;
  readonly #uploads = new UploadStore();
  #root: Promise<TreeFolder> | undefined;

  constructor(world: World) {
    this.#world = world;
    const root = (): Promise<TreeFolder> => {
      this.#root ??= buildRoot(world);
      return this.#root;
    };
    const inbox = async () => this.#uploads.inboxOf(await root());
    const { transfers, user, password } = world;
    const common = { acceptsKey: false, sftp: false, root, inbox };
    transfers.addAccount({ ...common, user, password });
    transfers.addAccount({ ...common, user: KEY_USER, password: null, acceptsKey: true });
    transfers.addAccount({ ...common, user: SFTP_USER, password, sftp: true });
  }

  /** Sites are reached by addresses. */
  archives() {
    return [];
  }

  async links(origin: string): Promise<Record<string, string>> {
    const { transfers, user } = this.#world;
    const at = (who: string): string => `aspera://${who}@127.0.0.1:${transfers.port}/`;
    return {
      site: at(user),
      "key-site": at(KEY_USER),
      "sftp-site": at(SFTP_USER),
      sdk: `${origin}${SDK}/ibm-aspera-transfer-sdk-linux-amd64-1.1.10.tar.gz`,
      "sdk-zip": `${origin}${SDK}/ibm-aspera-transfer-sdk-macos-arm64-1.1.10.zip`,
      "sdk-index": `${origin}${SDK}/index.yaml`,
      ...Object.fromEntries(
        SDK_FORMS.filter((form) => form !== "sound").map((form) => [
          `sdk-${form}`,
          `${origin}${SDK}/${form}/sdk.tar.gz`,
        ]),
      ),
    };
  }

  /** The SDK's download place: `index.yaml`, archives, and below the names of their faults the others. */
  route({ path, headers, incoming }: SandboxRequest): Route | undefined {
    if (path === `${SDK}/index.yaml`) {
      const scheme = "encrypted" in incoming.socket ? "https" : "http";
      return {
        serves: "page",
        answer: () => ({
          status: 200,
          headers: { "Content-Type": "text/yaml" },
          body: sdkIndex(`${scheme}://${headers.host}${SDK}`),
        }),
      };
    }
    const [, name = "sound", ending] =
      /^\/aspera-sdk(?:\/([a-z-]+))?\/[^/]+\.(tar\.gz|zip)$/.exec(path) ?? [];
    const form = SDK_FORMS.find((one) => one === name);
    if (form === undefined || ending === undefined) return undefined;
    return {
      serves: "file",
      answer: async () => ({
        status: 200,
        headers: { "Content-Type": "application/octet-stream" },
        body: ending === "zip" ? await sdkZip(form) : sdkTarGz(form),
      }),
    };
  }

  reset(): void {
    this.#root = undefined;
    this.#uploads.close();
  }

  close(): void {
    this.#uploads.close();
  }
}

/** A copy of the folders, so that uploads into it change no package. */
async function buildRoot(world: World): Promise<TreeFolder> {
  const { packages } = await world.packages.opened();
  const [first] = packages;
  return folderOf("", Date.UTC(2024, 0, 1), [
    ...packages.map(({ title, root }) => copied(root, title)),
    ...(first === undefined ? [] : [{ ...encryptedTree(first.root, AT_REST_PASSPHRASE), name: "encrypted" }]),
  ]);
}

/** Links to folders within it lead to the copies. */
function copied(root: TreeFolder, title: string): TreeFolder {
  const copies = new Map<TreeFolder, TreeFolder>();
  const copy = (folder: TreeFolder, name: string): TreeFolder => {
    const made = { ...folder, name, children: new Map(folder.children) };
    copies.set(folder, made);
    for (const child of folder.children.values())
      if (child.kind === "folder") made.children.set(child.name, copy(child, child.name));
    return made;
  };
  const top = copy(root, title);
  for (const { children } of copies.values()) {
    for (const child of children.values()) {
      if (child.kind !== "link" || child.to?.kind !== "folder") continue;
      children.set(child.name, { ...child, to: copies.get(child.to) ?? child.to });
    }
  }
  return top;
}
