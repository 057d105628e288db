/** MINC 2 files of phantoms (MINC 2.0 file format reference, en.wikibooks.org/wiki/MINC/Reference). */
import { buildHdf5, type Hdf5Dataset } from "./hdf5-writer.ts";
import type { Volume } from "./nifti-writer.ts";

const VARIABLE = { varid: "MNI standard variable", version: "MINC Version    1.0" };

/**
 * The volume as MINC 2: `zspace` slowest, with `time` before it when there are several volumes. `info` become
 * attributes of the groups that their names begin with, e.g. `acquisition:repetition_time`.
 */
export function buildMinc(volume: Volume, info: Readonly<Record<string, string | number>> = {}): Uint8Array {
  const { shape, spacing, voxels } = volume;
  const [x, y, z, volumes] = shape;
  const names = ["zspace", "yspace", "xspace"];
  const sizes = [z, y, x];
  if (volumes > 1) {
    names.unshift("time");
    sizes.unshift(volumes);
  }
  let least = 32_767;
  let most = -32_768;
  const view = new DataView(voxels.buffer, voxels.byteOffset, voxels.byteLength);
  for (let at = 0; at + 1 < voxels.byteLength; at += 2) {
    const value = view.getInt16(at, true);
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  const dimensions = Object.fromEntries(
    names.map((name) => {
      const axis = ["xspace", "yspace", "zspace", "time"].indexOf(name);
      return [name, dimension(axis, shape[axis]!, spacing[axis]!)];
    }),
  );
  const groups = new Map<string, Record<string, string | number>>();
  for (const [name, value] of Object.entries(info)) {
    const [group = "", field = ""] = name.split(":");
    groups.set(group, { ...groups.get(group), [field]: value });
  }
  const image: Hdf5Dataset = {
    shape: sizes,
    type: "int16",
    data: voxels,
    attributes: {
      ...VARIABLE,
      vartype: "group________",
      complete: "true_",
      signtype: "signed__",
      valid_range: [least, most],
      dimorder: names.join(","),
    },
  };
  return buildHdf5({
    members: {
      "minc-2.0": {
        attributes: { ident: "gantry:sandbox:phantom", minc_version: "2.4.03", history: "gantry sandbox\n" },
        members: {
          dimensions: { members: dimensions },
          image: {
            members: { "0": { members: { image, "image-max": scalar(most), "image-min": scalar(least) } } },
          },
          info: {
            members: Object.fromEntries(
              [...groups].map(([name, attributes]) => [
                name,
                {
                  ...empty(),
                  attributes: { ...VARIABLE, vartype: "group________", ...attributes },
                },
              ]),
            ),
          },
        },
      },
    },
  });
}

function dimension(axis: number, length: number, step: number): Hdf5Dataset {
  const isTime = axis === 3;
  return {
    ...empty(),
    attributes: {
      ...VARIABLE,
      vartype: "dimension____",
      alignment: "centre",
      length: { unsigned: length },
      spacing: "regular__",
      start: isTime ? 0 : (-step * (length - 1)) / 2,
      step,
      units: isTime ? "s" : "mm",
      ...(isTime
        ? {}
        : { spacetype: "native____", direction_cosines: [0, 1, 2].map((each) => (each === axis ? 1 : 0)) }),
    },
  };
}

const empty = (): Hdf5Dataset => ({ shape: [], type: "int32", data: new Uint8Array(4) });

function scalar(value: number): Hdf5Dataset {
  const data = Buffer.alloc(8);
  data.writeDoubleLE(value);
  return { shape: [], type: "float64", data, attributes: { ...VARIABLE, vartype: "var_attribute" } };
}
