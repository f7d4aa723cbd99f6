// The lakes on a plain map with a graticule and a scale; a basemap only where the service names one.
import type { FeatureCollection, Geometry } from "geojson";
import type { GeoJSONSource, LngLatBoundsLike, Map as LibreMap, StyleSpecification } from "maplibre-gl";
import type { Basemap, Lake } from "./api";
import { by, calm, colour, el } from "./dom";

type MapLibre = typeof import("maplibre-gl");
type Place = [number, number];

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30];
const NOTHING: FeatureCollection = { type: "FeatureCollection", features: [] };

export class LakeMap {
  private map: LibreMap | null = null;
  private lakes: Lake[] = [];
  private selected: string | null = null;
  private shore: Geometry | null = null;

  constructor(private onPick: (lake: string) => void) {}

  async start(lakes: Lake[], basemap: Basemap | null): Promise<void> {
    this.lakes = lakes;
    let library: MapLibre;
    try {
      library = await import("maplibre-gl");
      library.setWorkerUrl(new URL("maplibre-gl-worker.js", import.meta.url).href);
      this.map = new library.Map({
        container: "map",
        style: style(basemap),
        bounds: bounds(lakes),
        fitBoundsOptions: { padding: { top: 56, bottom: 40, left: 84, right: 84 }, maxZoom: 11 },
        attributionControl: basemap ? { compact: true } : false,
        dragRotate: false,
        pitchWithRotate: false,
        touchPitch: false,
        fadeDuration: 0,
        maxZoom: 15,
      });
    } catch {
      const message = by("map-message");
      message.textContent = "The map can’t be drawn: this browser has no WebGL. The list has all lakes.";
      message.hidden = false;
      by("map-frame").classList.add("none");
      return;
    }
    const map = this.map;
    map.touchZoomRotate.disableRotation();
    map.keyboard.disableRotation();
    map.getCanvas().setAttribute("aria-label", "Map of the lakes. Arrow keys move it, plus and minus zoom.");
    map.addControl(new library.NavigationControl({ showCompass: false }), "top-right");
    map.addControl(new library.ScaleControl({ maxWidth: 90, unit: "metric" }), "bottom-left");
    for (const lake of lakes) {
      const name = el("button", { type: "button", class: "pin", "data-lake": lake.id }, el("span", {}, lake.name));
      name.addEventListener("click", () => this.onPick(lake.id));
      new library.Marker({ element: name, anchor: "bottom", offset: [0, -2] }).setLngLat(lake.centroid).addTo(map);
    }
    map.on("move", () => this.moved());
    map.on("load", () => {
      this.moved();
      this.showShore(this.shore);
      this.markSelected();
    });
    map.on("resize", () => this.moved());
  }

  select(id: string, fly: boolean): void {
    this.selected = id;
    this.shore = null;
    this.showShore(null);
    this.markSelected();
    const lake = this.lakes.find((one) => one.id === id);
    if (!this.map || !lake || !fly) return;
    this.map.fitBounds(bounds([lake]), { padding: 56, maxZoom: 13, animate: !calm(), duration: 900 });
  }

  /** The shore of the pass that is looked at. */
  showShore(shore: Geometry | null): void {
    this.shore = shore;
    const source = this.map?.getSource<GeoJSONSource>("shore");
    source?.setData(shore ? { type: "Feature", geometry: shore, properties: {} } : NOTHING);
  }

  /** Colours anew, when the theme has changed. */
  paint(): void {
    const map = this.map;
    if (!map?.isStyleLoaded()) return;
    map.setPaintProperty("ground", "background-color", colour("--map"));
    map.setPaintProperty("graticule", "line-color", colour("--map-line"));
    map.setPaintProperty("lake-fill", "fill-color", colour("--water"));
    map.setPaintProperty("lake-line", "line-color", colour("--shore"));
    map.setPaintProperty("shore-line", "line-color", colour("--found"));
  }

  private markSelected(): void {
    for (const pin of document.querySelectorAll<HTMLElement>(".pin"))
      pin.setAttribute("aria-pressed", String(pin.dataset.lake === this.selected));
    const source = this.map?.getSource<GeoJSONSource>("lakes");
    source?.setData(outlines(this.lakes));
    this.moved();
  }

  private moved(): void {
    if (!this.map) return;
    by("map").classList.toggle("near", this.map.getZoom() > 9);
    this.drawGraticule();
    // Markers take their places after this event.
    requestAnimationFrame(uncrowd);
  }

  private drawGraticule(): void {
    const map = this.map;
    const source = map?.getSource<GeoJSONSource>("graticule");
    if (!map || !source) return;
    const seen = map.getBounds();
    const box = [seen.getWest(), seen.getSouth(), seen.getEast(), seen.getNorth()] as const;
    const step = STEPS.find((one) => (box[2] - box[0]) / one <= 4) ?? 30;
    const { clientWidth: width, clientHeight: height } = by("map-frame");
    const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    const lines: Place[][] = [];
    const labels: HTMLElement[] = [];
    for (let at = Math.ceil(box[0] / step); at * step < box[2]; at++) {
      lines.push([[at * step, Math.max(box[1], -85)], [at * step, Math.min(box[3], 85)]]);
      const x = map.project([at * step, box[3]]).x;
      if (x < width - 90) labels.push(label(`${Math.abs(at * step).toFixed(digits)}° ${at < 0 ? "W" : "E"}`, x, null));
    }
    for (let at = Math.ceil(box[1] / step); at * step < box[3]; at++) {
      lines.push([[box[0], at * step], [box[2], at * step]]);
      const y = map.project([box[0], at * step]).y;
      // Above are the meridians' labels, below is the scale.
      if (y > 34 && y < height - 36)
        labels.push(label(`${Math.abs(at * step).toFixed(digits)}° ${at < 0 ? "S" : "N"}`, null, y));
    }
    source.setData({ type: "Feature", properties: {}, geometry: { type: "MultiLineString", coordinates: lines } });
    by("graticule").replaceChildren(...labels);
  }
}

/** Names that would lie on each other are left out, that of the chosen lake last of all; the point stays. */
function uncrowd(): void {
  const frame = by("map-frame").getBoundingClientRect();
  const pins = [...document.querySelectorAll<HTMLElement>(".pin")];
  pins.sort((a, b) => Number(b.ariaPressed === "true") - Number(a.ariaPressed === "true"));
  const controls = document.querySelector("#map .maplibregl-ctrl-group");
  const taken: DOMRect[] = controls ? [controls.getBoundingClientRect()] : [];
  for (const pin of pins) {
    const box = pin.firstElementChild!.getBoundingClientRect();
    const meets = (one: DOMRect): boolean =>
      one.left < box.right && box.left < one.right && one.top < box.bottom && box.top < one.bottom;
    const out = box.left < frame.left || box.right > frame.right;
    const crowded = pin.ariaPressed !== "true" && (out || taken.some(meets));
    pin.classList.toggle("crowded", crowded);
    pin.title = crowded ? (pin.textContent ?? "") : "";
    if (!crowded) taken.push(box);
  }
}

function label(text: string, x: number | null, y: number | null): HTMLElement {
  const made = el("span", { class: x === null ? "parallel" : "meridian" }, text);
  if (x !== null) made.style.left = `${x}px`;
  if (y !== null) made.style.top = `${y}px`;
  return made;
}

function style(basemap: Basemap | null): StyleSpecification {
  const source = (data: FeatureCollection) => ({ type: "geojson" as const, data });
  const made: StyleSpecification = {
    version: 8,
    sources: { graticule: source(NOTHING), lakes: source(NOTHING), shore: source(NOTHING) },
    layers: [
      { id: "ground", type: "background", paint: { "background-color": colour("--map") } },
      { id: "graticule", type: "line", source: "graticule", paint: { "line-color": colour("--map-line"), "line-width": 1 } },
      { id: "lake-fill", type: "fill", source: "lakes", paint: { "fill-color": colour("--water") } },
      { id: "lake-line", type: "line", source: "lakes", paint: { "line-color": colour("--shore"), "line-width": 1.5 } },
      { id: "shore-line", type: "line", source: "shore", paint: { "line-color": colour("--found"), "line-width": 2 } },
    ],
  };
  if (basemap) {
    const { url, attribution } = basemap;
    made.sources.basemap = { type: "raster", tiles: [url], tileSize: 256, attribution };
    made.layers.splice(1, 0, { id: "basemap", type: "raster", source: "basemap" });
  }
  return made;
}

function outlines(lakes: Lake[]): FeatureCollection {
  const features = lakes.flatMap((lake) =>
    lake.outline ? [{ type: "Feature" as const, properties: { id: lake.id }, geometry: lake.outline }] : [],
  );
  return { type: "FeatureCollection", features };
}

function bounds(lakes: Lake[]): LngLatBoundsLike {
  const places = lakes.flatMap((lake) => [lake.centroid, ...corners(lake.outline)]);
  if (!places.length) return [[-170, -60], [170, 75]];
  const [x, y] = [places.map((one) => one[0]), places.map((one) => one[1])];
  return [[Math.min(...x), Math.min(...y)], [Math.max(...x), Math.max(...y)]];
}

function corners(outline: Geometry | null): Place[] {
  const found: Place[] = [];
  const walk = (part: unknown): void => {
    if (!Array.isArray(part)) return;
    if (typeof part[0] === "number") found.push([part[0], part[1] as number]);
    else part.forEach(walk);
  };
  if (outline && "coordinates" in outline) walk(outline.coordinates);
  return found;
}
