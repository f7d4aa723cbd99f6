// The image of a pass, with an earlier one of the same track before it.
import type { Pass } from "./api";
import { imageAddress, whyNot } from "./api";
import { by, el } from "./dom";
import { DAY, STATES, area, day, moment, stateOf } from "./words";

const LAYERS: Record<string, string> = {
  vv: "Radar backscatter, VV: calm water is dark; hatched is what the radar did not see.",
  vh: "Radar backscatter, VH: calm water is dark; hatched is what the radar did not see.",
  probability: "How probable water is: the darker, the surer. Hatched is what is not known.",
  mask: "What the radar can’t see from this track: layover is orange, shadow violet, both red.",
  chip: "What the network was shown.",
};

export const layer = (): string => by<HTMLSelectElement>("layer").value;

/** The pass to compare with: of the same track, so that the view is the same; open water and well seen if there is one. */
export function passBefore(passes: Pass[], selected: Pass): Pass | null {
  const earlier = passes.filter((one) => one.track === selected.track && one.time < selected.time);
  const choice = by<HTMLSelectElement>("before").value;
  if (choice === "1") return earlier.at(-1) ?? null;
  const known = earlier.filter((one) => one.area_km2 !== null);
  const alike = known.filter((one) => stateOf(one) === stateOf(selected));
  const among = alike.length ? alike : known.length ? known : earlier;
  if (choice === "first") return among[0] ?? null;
  const wanted = Date.parse(selected.time) - Number(choice) * DAY;
  const distance = (one: Pass): number => Math.abs(Date.parse(one.time) - wanted);
  const nearest = among.reduce<Pass | null>((best, one) => (best === null || distance(one) < distance(best) ? one : best), null);
  // What is half as far away as was asked for is another comparison.
  return nearest && distance(nearest) <= (Number(choice) / 2) * DAY ? nearest : null;
}

export class Images {
  private waiting = 0;
  private frame = document.querySelector<HTMLElement>("#compare .frame")!;

  constructor() {
    const share = by<HTMLInputElement>("share");
    const apply = (): void => {
      this.frame.style.setProperty("--share", `${share.value}%`);
      share.setAttribute("aria-valuetext", `${share.value} % of the width shows the earlier image`);
    };
    share.addEventListener("input", apply);
    apply();
    for (const id of ["after-image", "before-image"]) {
      const image = by<HTMLImageElement>(id);
      image.addEventListener("load", () => image.classList.remove("loading"));
      image.addEventListener("error", () => void this.failed(image));
    }
  }

  /** Shows them, once the slider has come to rest. */
  show(lake: string, name: string, now: Pass | null, before: Pass | null): void {
    window.clearTimeout(this.waiting);
    this.waiting = window.setTimeout(() => this.load(lake, name, now, before), 120);
  }

  private load(lake: string, name: string, now: Pass | null, before: Pass | null): void {
    const size = Math.min(2048, this.frame.clientWidth * window.devicePixelRatio > 640 ? 1024 : 512);
    by("image-message").hidden = true;
    this.frame.classList.toggle("single", before === null);
    this.put("after", lake, name, now, size);
    this.put("before", lake, name, before, size);
    by("share").hidden = before === null;
    by("image-words").replaceChildren(...words(now, before));
  }

  private put(which: "after" | "before", lake: string, name: string, pass: Pass | null, size: number): void {
    const image = by<HTMLImageElement>(`${which}-image`);
    const tag = by(`${which}-tag`);
    image.hidden = tag.hidden = pass === null;
    if (!pass) {
      image.removeAttribute("src");
      image.alt = "";
      return;
    }
    const address = imageAddress(lake, pass, layer(), size);
    if (image.getAttribute("src") !== address) {
      image.classList.add("loading");
      image.src = address;
    }
    image.alt = `${name} on ${moment(pass.time)}, track ${pass.track}, with the shore that was found`;
    tag.textContent = day(pass.time);
  }

  private async failed(image: HTMLImageElement): Promise<void> {
    const address = image.getAttribute("src");
    if (!address) return;
    image.hidden = true;
    const message = by("image-message");
    message.textContent = `Not known: this image; ${await whyNot(address)}.`;
    message.hidden = false;
  }
}

function words(now: Pass | null, before: Pass | null): HTMLElement[] {
  if (!now) return [el("p", {}, "Not known: an image; there is no pass.")];
  const row = (title: string, pass: Pass): HTMLElement[] => [
    el("dt", {}, title),
    el("dd", {}, `${moment(pass.time)}, track ${pass.track}`),
    el("dd", {}, pass.area_km2 === null ? "area not known" : area(pass.area_km2), `, ${STATES[stateOf(pass)]}`),
  ];
  const list = el("dl", {}, ...(before ? row("Before (left)", before) : []), ...row(before ? "Now (right)" : "Shown", now));
  const parts: HTMLElement[] = [list];
  if (before && before.area_km2 !== null && now.area_km2 !== null) {
    const more = now.area_km2 - before.area_km2;
    parts.push(el("p", {}, `Seen between them: ${more < 0 ? "−" : "+"}${Math.abs(more).toFixed(3)} km².`));
  }
  if (!before) parts.push(el("p", {}, "Not known: the earlier image; this track has no pass to compare with at that time."));
  parts.push(el("p", { class: "quiet" }, `${LAYERS[layer()] ?? ""} The line is the shore that was found.`));
  return parts;
}
