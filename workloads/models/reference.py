"""What PyTorch makes of the models of `bench infer` on the CPU, a JSON file for each model with the values of the first item
of a batch. Needs torch, torchvision and transformers; run with the folder of the fetched models:

    python3 workloads/models/reference.py target/models
"""
import json, pathlib, sys

import numpy, torch, torchvision, transformers

HERE = pathlib.Path(__file__).parent


def uniform(name, count):
    """Numbers from -1 to 1, exact in 24 bits: splitmix64 from the name's FNV-1a hash on, as in `seeded.rs`."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z ^= z >> numpy.uint64(31)
    return (z >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(2**23) - numpy.float32(1)


def range_of(name, shape):
    """Half of the range, and its middle."""
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        return 0.25, 1.0
    if len(shape) == 1:
        return 0.1, 0.0
    return (3 / numpy.prod(shape[1:])) ** 0.5, 0.0


def seeded(model):
    """The model with weights that their names determine."""
    weights = {}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        half, middle = range_of(name, tensor.shape)
        values = uniform(name, tensor.numel()) * numpy.float32(half) + numpy.float32(middle)
        weights[name] = torch.from_numpy(values).reshape(tensor.shape)
    model.load_state_dict(weights, strict=False)
    return model.eval()


def resnet(model):
    images = torch.tensor([i % 255 for i in range(3 * 224 * 224)], dtype=torch.float32) / 255 - 0.5
    return seeded(model(weights=None))(images.reshape(1, 3, 224, 224))[0]


def embedded(model, folder):
    sentence = "The GPU driver issues ioctl system calls."
    tokens = transformers.AutoTokenizer.from_pretrained(folder)([sentence], padding=True, return_tensors="pt")
    hidden, mask = model(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1).float()
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)[0]


def minilm(folder):
    return embedded(transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval(), folder)


def distilbert(folder):
    """Of BERT's parts, in DistilBERT's shape."""
    config = transformers.BertConfig(num_hidden_layers=6, attn_implementation="eager", layer_norm_eps=1e-12)
    return embedded(seeded(transformers.BertModel(config, add_pooling_layer=False)), folder)


with torch.no_grad():
    folder = pathlib.Path(sys.argv[1]) / "minilm"
    made = {
        "resnet18": resnet(torchvision.models.resnet18),
        "resnet34": resnet(torchvision.models.resnet34),
        "minilm": minilm(folder),
        "distilbert": distilbert(folder),
    }
for name, values in made.items():
    by = f"PyTorch {torch.__version__}, torchvision {torchvision.__version__}, transformers {transformers.__version__}, CPU"
    text = json.dumps({"by": by, "first": [float(f"{value:.9g}") for value in values.tolist()]})
    (HERE / f"{name}.json").write_text(text.replace("], ", "],\n") + "\n")
    print(name, values[:4].tolist(), "spread", values.std().item())
