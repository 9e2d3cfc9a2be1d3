"""Everything a pretraining run can be told; the defaults are the paper's ViT-B/14 run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from dermino.config import Config
from dermino.errors import UserError
from dermino.knowledge.certainty import Certainty
from dermino.pretrain.objectives.image import Pairing
from dermino.pretrain.objectives.knowledge import Reduction
from dermino.pretrain.views.photometric import Blur


def _increasing(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    if not 0 < low <= high <= 1:
        raise ValueError(f"must satisfy 0 < low <= high <= 1, not {low}, {high}")
    return limits


Share = Annotated[tuple[float, float], AfterValidator(_increasing)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class ModelConfig(Config):
    """The backbone.

    ``init`` names the weights to start from, as encoders are named everywhere: a run folder, a
    file, ``timm:NAME``, ``panderm-base=FILE``, or nothing for random weights. ``drop_path`` is the
    rate of stochastic depth in every block.
    ``checkpoint_activations`` computes blocks twice instead of keeping what is inside them.
    ``model_args`` go to timm as they are.
    """

    architecture: str = "vit_base_patch14_dinov2"
    init: str | None = None
    drop_path: float = Field(0.4, ge=0, lt=1)
    checkpoint_activations: bool = False
    model_args: dict[str, Any] = Field(default_factory=dict)

    @field_validator("model_args")
    @classmethod
    def _leave_the_size_to_the_views(cls, model_args: dict[str, Any]) -> dict[str, Any]:
        if "img_size" in model_args:
            raise ValueError("img_size is what views.global_size sets")
        return model_args


class DataConfig(Config):
    """Which images are shown when, and where images behind URLs are kept.

    ``sampling_temperature`` T shows a source of n images in proportion to n^(1/T). ``order`` is a
    shuffle of all images, or goes through shards (or archives, or folders) in a new order each
    epoch and shuffles the images of ``shard_buffer`` of them at a time. ``cache`` is a folder for
    whole shards, of at most ``cache_gib``; without one, every image is a request.
    """

    sampling_temperature: float = Field(1.0, ge=1)
    order: Literal["shuffle", "shards"] = "shuffle"
    shard_buffer: PositiveInt = 16
    cache: str | None = None
    cache_gib: float = Field(100.0, gt=0)

    @model_validator(mode="after")
    def _one_way_to_order(self) -> DataConfig:
        if self.order == "shards" and self.sampling_temperature > 1:
            raise ValueError("order=shards goes through all images: sampling_temperature must be 1")
        return self


class HeadConfig(Config):
    """The projection heads; the image and the patch head have the same shape but own weights."""

    num_prototypes: PositiveInt = 65_536
    hidden_dim: PositiveInt = 2048
    bottleneck_dim: PositiveInt = 256
    num_layers: PositiveInt = 3


class ViewsConfig(Config):
    """Two global views and ``local_crops`` local ones of each image."""

    global_size: PositiveInt = 224
    global_scale: Share = (0.32, 1.0)
    local_crops: int = Field(8, ge=0)
    local_size: PositiveInt = 98
    local_scale: Share = (0.05, 0.32)
    blur: Blur = "effective"


class MaskingConfig(Config):
    """Block masking of the student's global views."""

    probability: float = Field(0.5, ge=0, le=1)
    ratio: Share = (0.1, 0.5)


class LossConfig(Config):
    """Weights of the objectives and the temperatures they share."""

    image: float = Field(1.0, ge=0)
    patch: float = Field(1.0, ge=0)
    koleo: float = Field(0.1, ge=0)
    koleo_gather: bool = False
    knowledge: float = Field(1.0, ge=0)
    student_temp: float = Field(0.1, gt=0)
    teacher_temp: float = Field(0.07, gt=0)
    warmup_teacher_temp: float = Field(0.04, gt=0)
    warmup_teacher_temp_epochs: float = Field(30, ge=0)
    centering: Literal["sinkhorn_knopp", "softmax"] = "sinkhorn_knopp"
    pairing: Pairing = "cross"


class PrototypesConfig(Config):
    """The disease prototypes (section 4.1.4).

    ``learnable: false`` with ``bias: true`` is what the authors' code does; ``reduction:
    all_crops`` is Eq. 6 to the letter. ``soft_targets`` takes the weights of a differential
    diagnosis (SCIN) as y instead of 1; its labels below ``min_label_weight`` or
    ``min_label_confidence`` (1 to 5) count as neither present nor absent.
    """

    learnable: bool = True
    bias: bool = False
    reduction: Reduction = "labelled_crops"
    lr_multiplier: float = Field(1.0, gt=0)
    initial: Literal["text", "random"] = "text"
    soft_targets: bool = False
    min_label_weight: float = Field(0.1, ge=0, le=1)
    min_label_confidence: float = Field(2, ge=0)

    @property
    def certainty(self) -> Certainty:
        """Which labels count, and for how much."""
        return Certainty(self.soft_targets, self.min_label_weight, self.min_label_confidence)


class MAEConfig(Config):
    """Masked autoencoder: how much is hidden, and the decoder that is thrown away afterwards."""

    mask_ratio: float = Field(0.75, gt=0, lt=1)
    decoder_dim: PositiveInt = 512
    decoder_depth: PositiveInt = 8
    decoder_heads: PositiveInt = 16
    normalise_pixels: bool = True

    @model_validator(mode="after")
    def _dim_can_be_divided(self) -> MAEConfig:
        heads = f"decoder_heads={self.decoder_heads}"
        for divisor, name in ((self.decoder_heads, heads), (4, "4, which positions need")):
            if self.decoder_dim % divisor:
                raise ValueError(f"decoder_dim={self.decoder_dim} is not a multiple of {name}")
        return self


class MoCoV3Config(Config):
    """MoCo v3: widths of projector and predictor, and the temperature.

    ``freeze_patch_embed`` keeps the patch projection as it starts: random, or as in ``model.init``.
    """

    projection_dim: PositiveInt = 256
    hidden_dim: PositiveInt = 4096
    temperature: float = Field(0.2, gt=0)
    freeze_patch_embed: bool = True


class SwAVConfig(Config):
    """SwAV: prototypes, their assignment, and the queue that helps small batches.

    ``queue_length`` counts images over all devices; 0 leaves the queue out.
    """

    num_prototypes: PositiveInt = 3000
    projection_dim: PositiveInt = 128
    hidden_dim: PositiveInt = 2048
    epsilon: float = Field(0.05, gt=0)
    sinkhorn_iterations: PositiveInt = 3
    temperature: float = Field(0.1, gt=0)
    queue_length: int = Field(3840, ge=0)
    queue_start_epoch: float = Field(15, ge=0)


class PanDermConfig(Config):
    """Masked latent alignment: the frozen teacher, what is hidden, and the regressor.

    ``teacher`` is named as encoders are everywhere; ``teacher_projection`` sends its features
    through its own last layer, which suits CLIP but no classifier. Its patch grid at
    ``teacher_size`` pixels must be the student's.
    """

    teacher: str = "timm:vit_large_patch14_clip_quickgelu_224.openai"
    teacher_projection: bool = True
    teacher_size: PositiveInt = 196
    mask_ratio: float = Field(0.5, gt=0, lt=1)
    regressor_depth: PositiveInt = 4
    regressor_layer_scale: float = Field(0.1, gt=0)


class OptimizerConfig(Config):
    """AdamW and its schedules; lengths in epochs.

    The peak learning rate is ``base_lr`` times sqrt(batch / 1024) (DINOv2), times batch / 256
    (``linear``: MAE, MoCo v3), or as it is.
    """

    base_lr: float = Field(2e-3, gt=0)
    scale_lr: Literal["sqrt", "linear", "none"] = "sqrt"
    min_lr: float = Field(1e-6, ge=0)
    warmup_epochs: float = Field(10, ge=0)
    weight_decay: float = Field(0.04, ge=0)
    weight_decay_end: float = Field(0.2, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    clip_grad: float = Field(3.0, ge=0)
    layer_decay: float = Field(1.0, gt=0, le=1)
    patch_embed_lr_multiplier: float = Field(0.2, gt=0)
    freeze_last_layer_epochs: float = Field(1, ge=0)
    momentum_teacher: float = Field(0.992, ge=0, le=1)
    momentum_teacher_end: float = Field(1.0, ge=0, le=1)


class MonitorConfig(Config):
    """What is looked at while training, see ``docs/pretraining.md``.

    k-NN among at most ``knn_images`` labelled images that are not trained on, every ``every``
    steps; 0 leaves it out. These are images of the split ``val`` where the run leaves it out; with
    ``hold_out`` some are taken out of training where there are none.
    """

    every: PositiveInt = 1000
    knn_images: NonNegativeInt = 2000
    hold_out: bool = False


class PretrainConfig(Config):
    """A pretraining run; ``head`` to ``prototypes`` belong to dermino and dinov2.

    The length is ``epochs`` of ``epoch_length`` steps; without ``epoch_length`` an epoch is one
    true pass over the images. ``steps`` sets the length directly and stretches or shrinks every
    schedule with it.

    ``accumulate_grad_batches`` batches make one optimiser step, and the learning rate and every
    schedule count their images together. ``batch_size_per_device: auto`` tries out what fits.
    """

    method: str = "dermino"
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    head: HeadConfig = HeadConfig()
    views: ViewsConfig = ViewsConfig()
    masking: MaskingConfig = MaskingConfig()
    loss: LossConfig = LossConfig()
    prototypes: PrototypesConfig = PrototypesConfig()
    mae: MAEConfig = MAEConfig()
    mocov3: MoCoV3Config = MoCoV3Config()
    swav: SwAVConfig = SwAVConfig()
    panderm: PanDermConfig = PanDermConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    batch_size_per_device: PositiveInt | Literal["auto"] = 256
    accumulate_grad_batches: PositiveInt = 1
    epochs: float = Field(100, gt=0)
    epoch_length: PositiveInt | None = None
    steps: PositiveInt | None = None
    seed: int = Field(0, ge=0, lt=2**32)
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    compile: bool = False
    workers: NonNegativeInt | Literal["auto"] = "auto"
    checkpoint_every: PositiveInt = 1000
    keep_checkpoints: PositiveInt = 2
    log_every: PositiveInt = 10
    monitor: MonitorConfig = MonitorConfig()
    loggers: tuple[str, ...] = ("jsonl", "tensorboard")

    def batch_size(self, devices: int = 1) -> int:
        """Return the images of one optimiser step over all devices.

        Raises
        ------
        UserError
            If the batch is still ``auto``.
        """
        if self.batch_size_per_device == "auto":
            raise UserError(
                "batch_size_per_device=auto is worked out when a run starts, not here.",
                "Use --set batch_size_per_device=NUMBER.",
            )
        return self.batch_size_per_device * devices * self.accumulate_grad_batches
