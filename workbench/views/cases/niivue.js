// The volume viewer: NiiVue inside a Panel component. Python owns what is shown (image, overlay, window, opacity, layout,
// position); this file only carries it to NiiVue, and carries the crosshair and the window back.

const SLICE_TYPES = { axial: 0, coronal: 1, sagittal: 2, multiplanar: 3, render: 4 };
const DRAG = { pan: 3, crosshair: 8, windowing: 9 };
const REPORT_AFTER_MS = 200; // rest of the mouse after which Python is told: one message for a drag, not hundreds

const scripts = {}; // one script tag per address and page, however many viewers there are

// A page of the bare `panel serve app` finds the folder app/static under its own path, with any prefix.
function resolve(url) {
  if (url.startsWith("/") || url.includes("://")) return url;
  return `${window.location.pathname.replace(/\/+$/, "")}/${url}`;
}

function loadScript(url) {
  if (window.niivue) return Promise.resolve(window.niivue);
  if (!scripts[url]) {
    scripts[url] = new Promise((done, failed) => {
      const tag = document.createElement("script");
      tag.src = url;
      tag.onload = () => (window.niivue ? done(window.niivue) : failed(new Error(`${url} is not the viewer's library`)));
      tag.onerror = () => {
        delete scripts[url];
        failed(new Error(`the viewer's file ${url} could not be loaded`));
      };
      document.head.appendChild(tag);
    });
  }
  return scripts[url];
}

function bufferOf(value) {
  if (!value) return null;
  if (value instanceof ArrayBuffer) return value.byteLength ? value : null;
  if (value.buffer instanceof ArrayBuffer) {
    return value.byteLength ? value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength) : null;
  }
  return null;
}

function rgba(hex, alpha = 1) {
  const number = parseInt(hex.replace("#", ""), 16);
  return [((number >> 16) & 255) / 255, ((number >> 8) & 255) / 255, (number & 255) / 255, alpha];
}

function isDark(hex) {
  const [red, green, blue] = rgba(hex);
  return 0.299 * red + 0.587 * green + 0.114 * blue < 0.5;
}

class Viewer {
  constructor(model, canvas, readout) {
    this.model = model;
    this.canvas = canvas;
    this.readout = readout;
    this.image = null;
    this.overlay = null;
    this.stale = { image: true, overlay: true };
    this.applying = false; // while true, what NiiVue reports is an echo of what Python asked for
    this.reportTimer = null;
    this.turn = Promise.resolve();
    this.closed = false;
  }

  async start() {
    const library = await loadScript(resolve(this.model.script_url));
    if (!this.canvas.getContext("webgl2")) throw new Error("this browser offers no WebGL2");
    this.library = library;
    const background = this.model.background;
    this.nv = new library.Niivue({
      logLevel: "error",
      backColor: rgba(background),
      fontColor: isDark(background) ? [1, 0.85, 0.35, 1] : [0.55, 0.3, 0, 1],
      crosshairColor: [0.2, 0.85, 0.95, 0.75],
      crosshairWidth: 0.6,
      crosshairWidthUnit: "mm",
      crosshairGap: 6,
      show3Dcrosshair: true,
      fontSizeScaling: 0.25,
      fontMinPx: 15,
      isRadiologicalConvention: this.model.radiological,
      showAllOrientationMarkers: true,
      multiplanarShowRender: 1,
      multiplanarLayout: 2,
      multiplanarPadPixels: 4,
      dragAndDropEnabled: false,
      viewModeHotKey: "",
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      loadingText: "",
      thumbnail: "",
    });
    this.nv.setMouseEventConfig?.({
      leftButton: { primary: DRAG.crosshair, withShift: DRAG.pan, withCtrl: DRAG.windowing },
      rightButton: DRAG.windowing,
      centerButton: DRAG.pan,
    });
    await this.nv.attachToCanvas(this.canvas);
    this.nv.onLocationChange = (location) => this.located(location);
    this.nv.onIntensityChange = (volume) => this.windowed(volume);
    this.nv.opts.isOrientCube = this.model.orientation_cube;
    this.setLayout();
    await this.rebuild();
  }

  // Several parameters may change in one message: one rebuild for all of them, one after another.
  refresh(what) {
    this.stale[what] = true;
    clearTimeout(this.pending);
    this.pending = setTimeout(() => {
      this.turn = this.turn.then(() => this.rebuild()).catch((error) => this.fail(error));
    }, 0);
  }

  async parse(bytes, name) {
    const buffer = bufferOf(bytes);
    return buffer ? await this.library.NVImage.new(buffer, `${name}.nii.gz`, "gray") : null;
  }

  async rebuild() {
    if (!this.nv || this.closed || !(this.stale.image || this.stale.overlay)) return;
    this.applying = true;
    try {
      const { image, overlay } = this.stale;
      this.stale = { image: false, overlay: false };
      if (image) this.image = await this.parse(this.model.image, "image");
      if (overlay) this.overlay = await this.parse(this.model.overlay, "overlay");
      if (this.closed) return;
      this.styleImage();
      this.styleOverlay();
      // One upload and one drawing for all changes: the volumes are put in place, then NiiVue is told of the lowest.
      const stack = this.image ? [this.image, this.overlay].filter(Boolean) : [];
      this.nv.volumes = stack;
      this.moveTo(this.model.position);
      if (stack.length) this.nv.setVolume(stack[0], 0);
      else {
        this.nv.back = null;
        this.nv.overlays = [];
        this.nv.drawScene();
      }
      this.model.shown = (this.model.shown || 0) + 1;
      this.canvas.dataset.drawn = this.model.shown;
    } finally {
      this.applying = false;
    }
    this.describe();
  }

  styleImage() {
    if (!this.image) return;
    const [low, high] = this.model.window;
    this.image.colormap = "gray";
    this.image.cal_min = low;
    this.image.cal_max = Math.max(high, low + 1e-6);
  }

  styleOverlay() {
    if (!this.overlay) return;
    this.overlay.opacity = this.model.opacity;
    const table = this.model.labels;
    this.nv.opts.atlasOutline = 0;
    if (table && table.length) {
      // NiiVue knows no half-transparent label: those meant to be weak (alpha below 255) are drawn by their rim alone.
      if (this.model.outline || table.some((row) => row.alpha < 255)) this.nv.opts.atlasOutline = Math.max(this.model.opacity, 0.01);
      const column = (name) => [0, ...table.map((row) => row[name])];
      this.overlay.setColormapLabel({
        R: column("red"), G: column("green"), B: column("blue"),
        A: [0, ...table.map((row) => (this.model.outline || row.alpha < 255 ? 0 : 255))], I: column("value"), labels: ["", ...table.map((row) => row.name)],
      });
    } else {
      this.overlay.colormapLabel = null;
      this.overlay.colormap = this.model.colormap;
      this.overlay.cal_min = this.model.map_range[0];
      this.overlay.cal_max = this.model.map_range[1];
    }
  }

  // Changes that need no new data: the window, the opacity, the outline, the label colours.
  restyle() {
    if (!this.nv || !this.nv.volumes.length) return;
    this.applying = true;
    this.styleImage();
    this.styleOverlay();
    this.nv.updateGLVolume();
    this.canvas.dataset.opacity = this.model.opacity;
    this.applying = false;
    this.describe();
  }

  setLayout() {
    if (!this.nv) return;
    const layout = this.model.layout;
    this.nv.opts.multiplanarShowRender = layout === "multiplanar" ? 1 : 0;
    this.nv.setSliceType(SLICE_TYPES[layout] ?? SLICE_TYPES.multiplanar);
    this.canvas.dataset.layout = layout;
  }

  setLook() {
    if (!this.nv) return;
    const background = this.model.background;
    this.nv.opts.backColor = rgba(background);
    this.nv.opts.fontColor = isDark(background) ? [1, 0.85, 0.35, 1] : [0.55, 0.3, 0, 1];
    this.nv.opts.isOrientCube = this.model.orientation_cube;
    this.nv.setRadiologicalConvention(this.model.radiological);
    this.nv.drawScene();
  }

  position() {
    return Array.from(this.nv.frac2mm(this.nv.scene.crosshairPos)).slice(0, 3);
  }

  moveTo(position) {
    if (!this.nv || !this.nv.volumes.length || !position || position.length !== 3) return;
    this.nv.scene.crosshairPos = this.nv.mm2frac(position);
  }

  goTo(position) {
    if (!this.nv || !this.nv.volumes.length || !position || position.length !== 3) return;
    const now = this.position();
    if (position.every((value, axis) => Math.abs(value - now[axis]) < 0.06)) return;
    this.moveTo(position);
    this.nv.drawScene();
    this.describe();
  }

  located() {
    this.describe();
    if (this.applying) return;
    clearTimeout(this.reportTimer);
    this.reportTimer = setTimeout(() => {
      if (this.closed || !this.nv.volumes.length) return;
      this.model.position = this.position().map((value) => Math.round(value * 10) / 10);
    }, REPORT_AFTER_MS);
  }

  windowed(volume) {
    if (this.applying || volume !== this.image) return;
    clearTimeout(this.windowTimer);
    this.windowTimer = setTimeout(() => { this.model.window = [volume.cal_min, volume.cal_max]; }, REPORT_AFTER_MS);
  }

  // Under the picture: position, the image's value and the overlay's label there.
  describe() {
    if (!this.nv || !this.nv.volumes.length) {
      this.readout.textContent = this.model.empty_text;
      return;
    }
    const mm = this.position();
    const place = mm.map((value, axis) => `${"RAS"[axis]} ${value.toFixed(1).replace("-", "\u2212")}`).join("  ");
    const value = (volume) => {
      const voxel = volume.mm2vox(mm);
      return volume.getValue(voxel[0], voxel[1], voxel[2]);
    };
    const parts = [`${place} mm`, `${this.model.image_name} ${Number(value(this.image).toPrecision(3))}`];
    if (this.overlay && this.model.opacity > 0) {
      const found = value(this.overlay);
      const table = this.model.labels;
      if (table && table.length) {
        const row = table.find((entry) => entry.value === Math.round(found));
        if (row) parts.push(row.name);
      } else {
        parts.push(`${this.model.overlay_name} ${Number(found.toPrecision(3))}`);
      }
    }
    this.readout.textContent = parts.join("   ·   ");
  }

  fail(error) {
    this.readout.textContent = `The volume viewer cannot start: ${error.message}`;
    this.model.status = `failed: ${error.message}`;
  }

  close() {
    this.closed = true;
    clearTimeout(this.pending);
    clearTimeout(this.reportTimer);
    clearTimeout(this.windowTimer);
    if (!this.nv) return;
    this.nv.cleanup?.();
    this.nv.gl?.getExtension("WEBGL_lose_context")?.loseContext(); // browsers allow only about 16 contexts
    this.nv = null;
  }
}

export function render({ model }) {
  const frame = document.createElement("div");
  frame.className = "workbench-viewer";
  const stage = document.createElement("div");
  stage.className = "stage";
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "brain volume: axial, coronal, sagittal and 3-D views");
  const readout = document.createElement("div");
  readout.className = "readout";
  readout.setAttribute("aria-live", "polite");
  stage.appendChild(canvas);
  frame.append(stage, readout);

  const viewer = new Viewer(model, canvas, readout);
  // The element must be in the document before NiiVue measures it: start after this call has returned.
  setTimeout(() => {
    viewer.start().then(() => { model.status = "ready"; }).catch((error) => viewer.fail(error));
  }, 0);

  model.on("image", () => viewer.refresh("image"));
  model.on("overlay", () => viewer.refresh("overlay"));
  for (const name of ["window", "opacity", "outline", "labels", "colormap", "map_range"]) model.on(name, () => viewer.restyle());
  for (const name of ["background", "radiological", "orientation_cube"]) model.on(name, () => viewer.setLook());
  model.on("layout", () => viewer.setLayout());
  model.on("position", () => viewer.goTo(model.position));
  model.on("remove", () => viewer.close());
  return frame;
}
